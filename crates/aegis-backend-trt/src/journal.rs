//! What the vendor library says, kept for whoever has to explain a failure.
//!
//! The library writes through one logger for all models, so the journal remembers which thread a message came from:
//! a model's calls are made on its lane's thread.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Messages that are kept; older ones go.
const KEPT: usize = 64;

/// The last errors and warnings of a vendor library.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    messages: Mutex<VecDeque<(ThreadId, String)>>,
}

impl Journal {
    /// Takes what was said on this thread, oldest first.
    pub(crate) fn take(&self) -> Vec<String> {
        let own = thread::current().id();
        let mut messages = self.lock();
        let (said, others) = messages.drain(..).partition::<Vec<_>, _>(|(thread, _)| *thread == own);
        messages.extend(others);
        said.into_iter().map(|(_, text)| text).collect()
    }

    fn add(&self, text: String) {
        let mut messages = self.lock();
        if messages.len() == KEPT {
            messages.pop_front();
        }
        messages.push_back((thread::current().id(), text));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(ThreadId, String)>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logger's function: `owner` is a journal that lives until the process ends, `message` a text that ends.
pub(crate) unsafe extern "C" fn log(owner: *mut c_void, severity: i32, message: *const c_char) {
    // SAFETY: `as_ref` wants null or a live journal: the one that the logger was made with, which is leaked.
    let Some(journal) = (unsafe { owner.cast::<Journal>().as_ref() }) else { return };
    // SAFETY: `from_ptr` wants a text that ends and lives for the call: the vendor's contract; the shim sorts out null.
    let text = unsafe { CStr::from_ptr(message) };
    let word = match severity {
        0 => "internal error: ",
        1 => "",
        _ => "warning: ",
    };
    journal.add(format!("{word}{}", one_line(&text.to_string_lossy())));
}

/// The text without line ends: an error of ours is one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_its_own_messages_and_the_oldest_go_first() {
        let journal = Journal::default();
        thread::scope(|scope| scope.spawn(|| journal.add("elsewhere".into())).join()).unwrap();
        journal.add("here".into());
        assert_eq!(journal.take(), ["here"]);
        assert_eq!(journal.take(), [""; 0]);
        (0..=KEPT).for_each(|number| journal.add(number.to_string()));
        let kept = journal.take();
        assert_eq!((kept.len(), kept[0].as_str()), (KEPT, "1"));
    }

    #[test]
    fn a_message_says_how_bad_it_is_in_one_line() {
        let journal = Journal::default();
        let owner = (&raw const journal).cast_mut().cast();
        for (severity, text) in [(0, c"a\n b"), (1, c"c"), (2, c"d")] {
            // SAFETY: `log` wants a live journal and a text that ends.
            unsafe { log(owner, severity, text.as_ptr()) };
        }
        assert_eq!(journal.take(), ["internal error: a b", "c", "warning: d"]);
    }
}
