//! The counting allocator as a program's global allocator, which only a program of its own can have.

use aegis_benches::counting::{CountingAllocator, allocations, count};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn allocations_and_reallocations_of_this_thread_are_counted() {
    let (numbers, allocated) = count(|| Vec::<u64>::with_capacity(4));
    assert_eq!(allocated, 1);
    let (numbers, grown) = count(move || {
        let mut numbers = numbers;
        numbers.extend(0..5);
        numbers
    });
    assert_eq!(grown, 1);
    assert_eq!(count(|| drop(numbers)).1, 0);
    assert_eq!(count(|| vec![0u8; 64].len()).1, 1);
}

#[test]
fn another_threads_allocations_are_not_counted_here() {
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let (done, ended) = std::sync::mpsc::sync_channel::<u64>(1);
    let other = std::thread::spawn(move || {
        wait.recv().expect("told to go");
        let (_, counted) = count(|| (0..100).map(Box::new).collect::<Vec<_>>());
        done.send(counted).expect("somebody listens");
    });
    // The first use of a channel's waiting side may allocate; the second does not.
    let before = allocations();
    go.send(()).expect("the thread waits");
    let there = ended.recv().expect("the thread answers");
    let here = allocations().wrapping_sub(before);
    other.join().expect("no panic");
    assert!(there > 100, "{there}");
    assert!(here < 10, "{here}");
}
