//! How the placement search fares on published, realistic and generated instances, one line each: status, peak over
//! the lower bound, CPU time, decisions, and the most memory that the process held.
//!
//! Published and realistic instances come from the folder that `AEGIS_VECTORS` names. Where `AEGIS_MINIMALLOC` names
//! that program, it solves the same instances in turn, and its CPU time stands beside: in whole ticks of the system's
//! clock, as the system counts for processes that ended.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aegis_benches::effort::Effort;
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

/// CPU time of the process in milliseconds.
fn cpu_ms() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// CPU time of all processes that this one started and that ended, in milliseconds; `None` where the system does not
/// say.
fn children_ms() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, which may hold anything, ends at the last bracket. Behind it the state is field 3, and the user's and
    // the system's time of waited-for children are fields 16 and 17.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(13).take(2).map_while(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { return None };
    Some((user + system) as f64 * 1e3 / rustix::param::clock_ticks_per_second() as f64)
}

/// Lets MiniMalloc solve an instance and prints beside `ours` what that took; `None` where it failed.
fn beside(program: &OsStr, path: &Path, ours: f64) -> Option<f64> {
    let before = children_ms()?;
    let input = format!("--input={}", path.display());
    let mut command = Command::new(program);
    command.args([&input, "--output=/dev/null", &format!("--capacity={POSED}")]);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let took = children_ms()? - before;
    match done {
        Ok(status) if status.success() => {
            println!("  minimalloc: {took:.0} ms of CPU, {:.1} times ours", took / ours.max(1e-3));
            Some(took)
        }
        failed => {
            println!("  minimalloc: failed: {failed:?}");
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

/// One line for one instance. Returns the CPU time that the search took.
fn line(name: &str, problem: &Problem, goal: Goal, seed: u64, limit_ms: f64) -> f64 {
    forget_peak();
    let start = cpu_ms();
    let mut search = Search::new(problem, goal, seed);
    let first = cpu_ms() - start;
    let early = search.peak().get();
    while cpu_ms() - start < limit_ms && !search.step(1000) {}
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
        "{name:34} {:6} {status:10} {:10.5} {:10.2} {:9.3} {:10.3} {:9} {verified:9.2} {memory:8.1}",
        problem.buffers().len(),
        over(search.peak().get()),
        took,
        over(early),
        first,
        search.nodes(),
    );
    took
}

fn instances(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "csv")).collect();
    files.sort();
    files
}

fn published(root: &Path, effort: Effort) {
    let program = std::env::var_os("AEGIS_MINIMALLOC");
    let (mut ours, mut theirs) = (0.0, Some(0.0));
    for path in instances(&root.join("minimalloc")) {
        let instance = read(&path);
        let posed = instance.problem(Bytes::new(POSED)).expect("sizes are small");
        let took = line(&name(&path), &posed, Goal::Within, 0, 10_000.0);
        ours += took;
        let beside = program.as_ref().and_then(|program| beside(program, &path, took));
        theirs = theirs.zip(beside).map(|(sum, took)| sum + took);
        for capacity in tighter(&name(&path)) {
            let problem = instance.problem(Bytes::new(*capacity)).expect("as before");
            line(&format!("  within {capacity}"), &problem, Goal::Within, 0, 10_000.0);
        }
        let least = instance.problem(Bytes::new(AMPLE)).expect("as before");
        line("  as few as possible", &least, Goal::Least, 0, effort.choose(10_000, 20) as f64);
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
        "{:34} {:>6} {:10} {:>10} {:>10} {:>9} {:>10} {:>9} {:>9} {:>8}",
        "instance", "n", "status", "peak/bound", "CPU ms", "first", "first ms", "decisions", "verify", "MiB"
    );
    match std::env::var_os("AEGIS_VECTORS").map(|root| PathBuf::from(root).join("memory")) {
        Some(root) => {
            published(&root, effort);
            for path in
                ["realistic", "idealloc_corpus"].into_iter().flat_map(|folder| instances(&root.join(folder)))
            {
                let problem = read(&path).problem(Bytes::new(AMPLE)).expect("sizes are small");
                line(&name(&path), &problem, Goal::Least, 0, effort.choose(2_000, 20) as f64);
            }
        }
        None => println!("skipped: AEGIS_VECTORS is not set"),
    }
    for (count, time, left_out) in [(80, 40, 0), (80, 40, 5), (150, 80, 5), (250, 120, 5)] {
        for seed in 0..effort.choose(5, 1) {
            let name = format!("cut {count} over {time} less {left_out}% #{seed}");
            line(
                &name,
                &cut_up(seed, count, time, left_out),
                Goal::Within,
                seed,
                effort.choose(1_000, 20) as f64,
            );
        }
    }
}
