//! How the placement search fares on published, realistic and generated instances, one line each: status, peak over
//! the lower bound, CPU time, decisions, and the most memory that the process held.
//!
//! Published and realistic instances come from the folder that `AEGIS_VECTORS` names. Where `AEGIS_MINIMALLOC` names
//! that program, it solves the same instances in turn, and its CPU time stands beside: in whole ticks of the system's
//! clock, as the system counts for processes that ended.

use std::path::{Path, PathBuf};

use aegis_benches::effort::Effort;
use aegis_benches::minimalloc::{MiniMalloc, Solved};
use aegis_benches::sets::SplitMix;
use aegis_memory::csv::Instance;
use aegis_memory::verify::check_placement;
use aegis_memory::{Goal, Problem, Search, Status};
use aegis_types::Bytes;
use rustix::time::{ClockId, clock_gettime};

/// The capacity under which the published instances are posed.
const POSED: u64 = 1 << 20;

/// Without a capacity everything fits.
const AMPLE: u64 = u64::MAX / 4;

/// Milliseconds of CPU after which the peak is noted where a search is still at work.
const MARKS: [f64; 3] = [1_000.0, 3_000.0, 10_000.0];

/// CPU time of the process in milliseconds.
fn cpu_ms() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// Lets MiniMalloc solve an instance and prints beside `ours` what that took; `None` where it failed.
fn beside(program: &MiniMalloc, path: &Path, ours: f64) -> Option<f64> {
    match program.solve(path, Bytes::new(POSED)) {
        Ok(Solved { cpu_ms, peak }) => {
            let times = cpu_ms / ours.max(1e-3);
            println!("  minimalloc: {cpu_ms:.0} ms of CPU, {times:.1} times ours; peak {}", peak.get());
            Some(cpu_ms)
        }
        Err(error) => {
            println!("  minimalloc: failed: {error}");
            None
        }
    }
}

/// Asks the kernel to forget the peak so far. Where it refuses, the figure is that of the whole process.
fn forget_peak() {
    let _refused = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that was resident, in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// How long a search may go on.
#[derive(Clone, Copy)]
enum Limit {
    /// Milliseconds of CPU.
    Ms(f64),
    Decisions(u64),
}

/// One line for one instance. Returns the search.
fn line(name: &str, problem: &Problem, goal: Goal, seed: u64, limit: Limit) -> Search {
    timed(name, problem, goal, seed, limit).0
}

/// As [`line`], with the milliseconds of CPU that the search took.
fn timed(name: &str, problem: &Problem, goal: Goal, seed: u64, limit: Limit) -> (Search, f64) {
    forget_peak();
    let start = cpu_ms();
    let mut search = Search::new(problem, goal, seed);
    let first = cpu_ms() - start;
    let early = search.peak().get();
    let mut noted: Vec<u64> = Vec::new();
    match limit {
        Limit::Ms(most) => loop {
            let spent = cpu_ms() - start;
            if MARKS.get(noted.len()).is_some_and(|&mark| spent >= mark) {
                noted.push(search.peak().get());
            }
            if spent >= most || search.step(500) {
                break;
            }
        },
        Limit::Decisions(most) => {
            search.step(most);
        }
    }
    let took = cpu_ms() - start;
    let memory = peak_mib();
    let before = cpu_ms();
    let verdict = check_placement(problem, &search.placement());
    let verified = cpu_ms() - before;
    let fits = search.peak() <= problem.capacity();
    let status = match search.status() {
        _ if fits && verdict != Ok(search.peak()) => "REJECTED",
        Status::Optimal => "optimal",
        Status::Feasible { .. } => "feasible",
        Status::Infeasible { .. } => "infeasible",
        Status::Timeout { .. } => "timeout",
    };
    let over = |peak: u64| peak as f64 / search.bound().get().max(1) as f64;
    println!(
        "{name:36} {:6} {status:10} {:10.5} {:10.2} {:9.3} {:10.3} {:9} {verified:9.2} {memory:8.1}",
        problem.buffers().len(),
        over(search.peak().get()),
        took,
        over(early),
        first,
        search.nodes(),
    );
    if !noted.is_empty() {
        let peaks: Vec<String> = noted.iter().map(|&peak| format!("{peak} ({:.5})", over(peak))).collect();
        println!("  after 1, 3 and 10 s: {}", peaks.join(", "));
    }
    (search, took)
}

fn instances(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "csv")).collect();
    files.sort();
    files
}

fn published(root: &Path, effort: Effort) {
    let program = MiniMalloc::named();
    let (mut ours, mut theirs) = (0.0, Some(0.0));
    for path in instances(&root.join("minimalloc")) {
        let instance = read(&path);
        let posed = instance.problem(Bytes::new(POSED)).expect("sizes are small");
        let (_, took) = timed(&name(&path), &posed, Goal::Within, 0, Limit::Ms(10_000.0));
        ours += took;
        let beside = program.as_ref().and_then(|program| beside(program, &path, took));
        theirs = theirs.zip(beside).map(|(sum, took)| sum + took);
        for capacity in tighter(&name(&path)) {
            let problem = instance.problem(Bytes::new(*capacity)).expect("as before");
            line(&format!("  within {capacity}"), &problem, Goal::Within, 0, Limit::Ms(10_000.0));
        }
        let least = instance.problem(Bytes::new(AMPLE)).expect("as before");
        line("  as few as possible", &least, Goal::Least, 0, Limit::Ms(effort.choose(10_000, 20) as f64));
    }
    println!("sum within {POSED}: {ours:.1} ms of CPU");
    match (program, theirs) {
        (None, _) => println!("  minimalloc: skipped: AEGIS_MINIMALLOC names no program"),
        (Some(_), Some(theirs)) => {
            println!("  minimalloc: {theirs:.0} ms, {:.1} times ours", theirs / ours.max(1e-3));
        }
        (Some(_), None) => println!("  minimalloc: no sum, because it did not solve every instance"),
    }
}

/// Capacities below the posed one that are known to be hard.
fn tighter(name: &str) -> &'static [u64] {
    match name.chars().next() {
        Some('C') => &[1_039_360],
        Some('D') => &[1_040_384, 1_029_120],
        _ => &[],
    }
}

fn read(path: &Path) -> Instance {
    let text = std::fs::read_to_string(path).expect("a readable file");
    Instance::read(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A rectangle cut up at random: a placement without any waste exists.
fn cut_up(seed: u64, count: usize, time: u64, left_out: u64) -> Problem {
    let mut draw = SplitMix(seed);
    let mut pieces = vec![(0, time, 0, 1024u64)];
    while pieces.len() < count {
        let at = draw.between(0, pieces.len() as u64 - 1) as usize;
        let (l, h, p, q) = pieces[at];
        if draw.between(0, 9) < 7 && q - p >= 2 {
            let y = draw.between(p + 1, q - 1);
            pieces[at] = (l, h, p, y);
            pieces.push((l, h, y, q));
        } else if h - l >= 2 {
            let x = draw.between(l + 1, h - 1);
            pieces[at] = (l, x, p, q);
            pieces.push((x, h, p, q));
        }
    }
    pieces.retain(|_| draw.between(0, 99) >= left_out);
    let rows = pieces.iter().enumerate().map(|(id, (l, h, p, q))| format!("{id},{l},{h},{}\n", q - p));
    let text: String = std::iter::once("id,lower,upper,size\n".to_owned()).chain(rows).collect();
    Instance::read(&text).and_then(|it| Ok(it.problem(Bytes::new(1024))?)).expect("a legal instance")
}

fn main() {
    let effort = Effort::asked();
    println!("place: {}", effort.note());
    println!(
        "{:36} {:>6} {:10} {:>10} {:>10} {:>9} {:>10} {:>9} {:>9} {:>8}",
        "instance", "n", "status", "peak/bound", "CPU ms", "first", "first ms", "decisions", "verify", "MiB"
    );
    match std::env::var_os("AEGIS_VECTORS").map(|root| PathBuf::from(root).join("memory")) {
        Some(root) => {
            published(&root, effort);
            thinned(&root, effort);
            for path in
                ["realistic", "idealloc_corpus"].into_iter().flat_map(|folder| instances(&root.join(folder)))
            {
                let problem = read(&path).problem(Bytes::new(AMPLE)).expect("sizes are small");
                line(&name(&path), &problem, Goal::Least, 0, Limit::Ms(effort.choose(2_000, 20) as f64));
            }
        }
        None => println!("skipped: AEGIS_VECTORS is not set"),
    }
    shapes(effort);
    cuts(effort);
    minimised(effort);
}

/// Kinds of lives that stand apart: all of one instant, a window that slides, teeth on a ground, and alignments far above
/// sizes.
fn shapes(effort: Effort) {
    type Row<'a> = &'a dyn Fn(u64, u64) -> String;
    let mut draw = SplitMix(1);
    let mut size = |step: u64| step * draw.between(1, 99);
    let nested = |at: u64, size: u64| format!("{at},{},{size},1", 2000 - at);
    let sliding = |at: u64, size: u64| format!("{at},{},{size},1", at + 20);
    let comb = |at: u64, size: u64| match at % 2 {
        0 => format!("{at},{},{size},1", at + 3),
        _ => format!("0,1000,{size},1"),
    };
    let aligned =
        |at: u64, size: u64| format!("{at},{},{size},{}", at + size % 40 + 1, 64 << (2 * (size % 4)));
    let kinds: [(&str, u64, Row<'_>); 4] = [
        ("nested", 256, &nested),
        ("sliding", 256, &sliding),
        ("comb", 1024, &comb),
        ("aligned", 7, &aligned),
    ];
    for (kind, step, row) in kinds {
        let rows = (0..1000).map(|at| format!("{at},{}\n", row(at, size(step))));
        let text: String =
            std::iter::once("id,lower,upper,size,alignment\n".to_owned()).chain(rows).collect();
        let problem = Instance::read(&text).and_then(|it| Ok(it.problem(Bytes::new(AMPLE))?));
        let limit = Limit::Ms(effort.choose(2_000, 20) as f64);
        line(&format!("{kind} 1000"), &problem.expect("a legal instance"), Goal::Least, 0, limit);
    }
}

/// The published instances without about every twentieth buffer, which chance picks.
fn thinned(root: &Path, effort: Effort) {
    for path in instances(&root.join("minimalloc")) {
        for seed in 1..=effort.choose(3, 1) {
            let mut draw = SplitMix(seed);
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let rows = text.lines().enumerate().filter(|&(at, _)| at == 0 || draw.between(0, 99) >= 5);
            let kept: String = rows.map(|(_, row)| format!("{row}\n")).collect();
            let problem = Instance::read(&kept).and_then(|it| Ok(it.problem(Bytes::new(AMPLE))?));
            let problem = problem.expect("what is left of a legal instance");
            let limit = Limit::Ms(effort.choose(10_000, 20) as f64);
            line(&format!("{} thinned #{seed}", name(&path)), &problem, Goal::Least, seed, limit);
        }
    }
}

/// Rectangles cut up, where nobody says into what space they fit.
fn minimised(effort: Effort) {
    for (count, time, left_out) in [(300, 130, 0), (300, 130, 3), (200, 60, 10), (400, 150, 6)] {
        for seed in 2000..2000 + effort.choose(6, 1) {
            let posed = cut_up(seed, count, time, left_out);
            let problem = Problem::new(posed.buffers().to_vec(), Bytes::new(AMPLE)).expect("as before");
            let name = format!("least: cut {count} over {time} less {left_out}% #{seed}");
            let limit = Limit::Ms(effort.choose(10_000, 20) as f64);
            line(&name, &problem, Goal::Least, seed % 1000, limit);
        }
    }
}

/// Rectangles cut up, with and without waste. Their budget is one of decisions, so that what is solved is the same on every
/// machine.
fn cuts(effort: Effort) {
    let (seeds, decisions) = (effort.choose(10, 1), effort.choose(60_000, 2_000));
    for left_out in [0, 3] {
        let (mut solved, mut all) = (0, 0);
        for (count, time) in [(150, 80), (200, 100), (250, 110), (300, 130)] {
            for seed in (0..seeds).chain(2000..2000 + seeds) {
                let name = format!("cut {count} over {time} less {left_out}% #{seed}");
                let problem = cut_up(seed, count, time, left_out);
                let search = line(&name, &problem, Goal::Within, seed % 1000, Limit::Decisions(decisions));
                solved += u32::from(search.peak() <= problem.capacity());
                all += 1;
            }
        }
        println!("cuts less {left_out}%: {solved} of {all} solved within {decisions} decisions each");
    }
}
