//! Quantities for people: four significant digits. Programs get exact numbers as JSON.

use aegis_types::{Bytes, Nanos, Time};

const SPANS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Significant digits that are shown.
const DIGITS: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Nearest,
    Up,
    Down,
}

/// A number of things that `word` names one of, with its regular plural.
pub fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// A span to the nearest four digits; `none` for [`Nanos::MAX`], which stands for "no bound".
pub fn span(span: Nanos) -> String {
    if span == Nanos::MAX { "none".to_owned() } else { rounded(span.get(), SPANS, Round::Nearest) }
}

/// A span rounded up to four digits, for what must be at least so long.
pub fn span_up(span: Nanos) -> String {
    rounded(span.get(), SPANS, Round::Up)
}

/// A span rounded down to four digits, for what may be at most so long.
pub fn span_down(span: Nanos) -> String {
    rounded(span.get(), SPANS, Round::Down)
}

/// A span, or a dash.
pub fn maybe(value: Option<Nanos>) -> String {
    value.map_or_else(|| "-".to_owned(), span)
}

/// A size to the nearest four digits.
pub fn size(bytes: Bytes) -> String {
    rounded(bytes.get(), SIZES, Round::Nearest)
}

/// An instant as seconds and microseconds, so that instants of one trace line up.
pub fn instant(time: Time) -> String {
    let micros = time.get() / 1_000;
    format!("{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
}

/// A share as percent with one decimal, rounded down: 100 % is said only of all.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part) * 1_000 / u128::from(whole);
    if tenths == 1_000 { "100%".to_owned() } else { format!("{}.{}%", tenths / 10, tenths % 10) }
}

/// Millionths as a factor with two decimals, rounded up.
pub fn factor(ppm: u64) -> String {
    let hundredths = ppm.div_ceil(10_000);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Millionths as whole percent where they are some, else with decimals.
pub fn margin(ppm: u64) -> String {
    format!("{}%", decimal(u128::from(ppm), 10_000, 2))
}

/// A text in which every span with a unit is rounded to four digits.
pub fn plain(text: &str) -> String {
    rewritten(text, |_, span| self::span(span))
}

/// A text of a trace, in which instants stand beside spans: after `at`, `from`, `to`, `since`, `between` or `and` comes
/// an instant, which is shown to the microsecond; spans are rounded to four digits.
pub fn told(text: &str) -> String {
    const BEFORE_INSTANTS: [&str; 6] = ["at", "from", "to", "since", "between", "and"];
    rewritten(text, |before, span| {
        let word = before.trim_end().rsplit(' ').next().unwrap_or("");
        if BEFORE_INSTANTS.contains(&word) { instant(Time::new(span.get())) } else { self::span(span) }
    })
}

/// A text with every quantity of time as `show` shows it, which gets what stands before it.
fn rewritten(text: &str, show: impl Fn(&str, Nanos) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_digit() && !inside_word { quantity(rest) } else { None };
        if let Some((length, span)) = length {
            let shown = show(&out, span);
            out.push_str(&shown);
            rest = &rest[length..];
            inside_word = true;
        } else {
            out.push(first);
            inside_word = first.is_alphanumeric() || matches!(first, '_' | '.' | '#');
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The span that the text begins with, and how long it is.
fn quantity(text: &str) -> Option<(usize, Nanos)> {
    let word = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(text.len());
    let word = text[..word].trim_end_matches('.');
    word.parse().ok().map(|span| (word.len(), span))
}

fn rounded(value: u64, units: [(&str, u64); 4], round: Round) -> String {
    let (name, size) = units.into_iter().rev().find(|(_, size)| value >= *size).unwrap_or(units[0]);
    let before = (value / size).checked_ilog10().unwrap_or(0) + 1;
    let decimals = if size == 1 { 0 } else { DIGITS.saturating_sub(before) };
    let scale = 10u128.pow(decimals);
    let (scaled, size) = (u128::from(value) * scale, u128::from(size));
    let shown = match round {
        Round::Up => scaled.div_ceil(size),
        Round::Nearest => (scaled + size / 2) / size,
        Round::Down => scaled / size,
    };
    format!("{}{name}", decimal(shown, scale, decimals as usize))
}

/// `value / scale` with at most `decimals` decimals, of which trailing zeros are left out. `scale` is 10^decimals or a
/// multiple.
fn decimal(value: u128, scale: u128, decimals: usize) -> String {
    let step = scale / 10u128.pow(u32::try_from(decimals).unwrap_or(0));
    let fraction = value % scale / step.max(1);
    let text = format!("{}.{fraction:0decimals$}", value / scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_four_digits() {
        let cases = [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1us"),
            (12_345, "12.35us"),
            (33_000_000, "33ms"),
            (39_123_456, "39.12ms"),
            (1_234_567_890, "1.235s"),
            (999_999, "1000us"),
            (12_345_678_901_234, "12346s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(span(Nanos::new(ns)), expected);
        }
        assert_eq!(span_up(Nanos::new(39_120_001)), "39.13ms");
        assert_eq!(span_up(Nanos::new(39_120_000)), "39.12ms");
        assert_eq!(span_down(Nanos::new(39_129_999)), "39.12ms");
        assert_eq!(span(Nanos::MAX), "none");
        assert_eq!(size(Bytes::new(1_536)), "1.5KiB");
        assert_eq!(size(Bytes::new(100 << 20)), "100MiB");
    }

    #[test]
    fn shares_never_flatter() {
        assert_eq!(percent(9_999, 10_000), "99.9%");
        assert_eq!(percent(10, 10), "100%");
        assert_eq!(percent(0, 0), "-");
        assert_eq!(factor(1_000_001), "1.01");
        assert_eq!(margin(200_000), "20%");
        assert_eq!(margin(125_000), "12.5%");
        assert_eq!(margin(0), "0%");
    }

    #[test]
    fn only_spans_are_rounded_in_a_text() {
        let text = "x_12ms#7 took 39123456ns (budget 45ms), seen 1.234567ms. v1.2.3 of 5 at 10MiB, 1.5s.";
        let expected = "x_12ms#7 took 39.12ms (budget 45ms), seen 1.235ms. v1.2.3 of 5 at 10MiB, 1.5s.";
        assert_eq!(plain(text), expected);
    }

    #[test]
    fn instants_of_a_trace_keep_their_microseconds() {
        let text = "a#1 left lane0 after 39123456ns, due at 5404123456ns, blocked since 1234567us";
        assert_eq!(told(text), "a#1 left lane0 after 39.12ms, due at 5.404123s, blocked since 1.234567s");
    }

    #[test]
    fn instants_line_up() {
        assert_eq!(instant(Time::new(1_234_567_890)), "1.234567s");
    }
}
