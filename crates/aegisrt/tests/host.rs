//! Real models on the host device, end to end through the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime, Reference};
use aegis_sched::Certificate;
use aegis_sched::admission::{AdmissionController, AdmissionRequest, Verdict};
use aegis_types::Nanos;
use aegis_types::records::{Control, JobOutcome, Refusal};
use aegisrt::calibrate::CalibrateOptions;
use aegisrt::client::{Client, Fate};
use aegisrt::config::{Calibration, Fleet, Prepared, Profile};
use aegisrt::feed::Feed;
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::measure;
use aegisrt::plant::ControlRequest;
use aegisrt::profile::ProfileOptions;
use aegisrt::run::{RunOptions, run, run_with};
use aegisrt::system::{Builder, System};
use aegisrt::waiting::Waiting;

/// The folder with models and library, if the test command made one.
fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("AEGIS_CACHE").map(PathBuf::from);
    if cache.is_none() {
        println!("skipped: AEGIS_CACHE names no folder with models and libonnxruntime");
    }
    cache
}

fn silero(cache: &Path) -> String {
    format!(
        r#"
        [device]
        kind = "host"
        memory = "256MiB"
        [[partition]]
        name = "audio"
        cores = [0]
        [policy]
        kind = "fifo"
        [[task]]
        name = "silero_vad"
        model = "{}/models/silero_vad.onnx"
        backend = "onnx"
        period = "100ms"
        partition = "audio"
        shapes = {{ input = [1, 576], h = [1, 1, 128], c = [1, 1, 128] }}
        state = [["hn", "h"], ["cn", "c"]]
        budget = {{ memory = "32MiB", streams = 1 }}
        "#,
        cache.display()
    )
}

/// Everything that a test of a run needs.
struct Ready {
    system: System,
    runtime: OnnxRuntime,
    calibration: Calibration,
    profile: Profile,
}

fn ready(runtime: OnnxRuntime, fleet: &str) -> Result<Ready, Box<dyn std::error::Error>> {
    let fleet = Fleet::parse(Path::new("fleet.toml"), fleet)?;
    let loaders = Loaders::default().with(Arc::new(OnnxLoader::new(runtime.clone())));
    let system = Builder::new(fleet).loaders(loaders).build(|_| {})?;
    let short = CalibrateOptions { duration: Nanos::from_millis(500), ..CalibrateOptions::default() };
    let (calibration, _) = measure::calibrate(&system, Path::new("platform.json"), short, false)?;
    let time_per_task = Nanos::from_millis(500);
    let quick = ProfileOptions { time_per_task, margin_ppm: 500_000, ..ProfileOptions::default() };
    let profile = measure::profile(&system, &calibration, Path::new("profile.json"), quick)?;
    Ok(Ready { system, runtime, calibration, profile })
}

/// The certificate of a prepared fleet. A machine so loaded that nothing fits certifies nothing, and that is the
/// right answer there.
fn certificate(ready: &Ready, prepared: &Prepared) -> Option<Certificate> {
    let controller = AdmissionController::new(Box::new(Arc::clone(ready.system.policy())));
    match controller.analyze(&AdmissionRequest::new(&prepared.set).tight()).verdict {
        Verdict::Admitted(certificate) => Some(certificate),
        Verdict::Refused(refusal) => {
            println!("skipped: refused on this machine: {refusal}");
            None
        }
    }
}

fn options(duration: Nanos) -> RunOptions {
    RunOptions {
        duration,
        trace: None,
        keep_outputs: 4,
        poison: true,
        realtime: false,
        waiting: Waiting::Blocking,
        control: Arc::new(ControlRequest::default()),
        live: Arc::new(Live::default()),
    }
}

#[test]
fn models_run_on_one_lane_under_a_certificate() -> Result<(), Box<dyn std::error::Error>> {
    let Some(cache) = cache() else { return Ok(()) };
    // One library serves one process, so both fleets run in one test.
    let runtime = OnnxRuntime::load(&cache.join("onnxruntime/libonnxruntime.so"))?;
    released_by_timer(&ready(runtime.clone(), &silero(&cache))?)?;
    submitted_by_a_client(&ready(
        runtime,
        &silero(&cache).replace("period =", "arrival = \"sporadic\"\nperiod ="),
    )?)
}

fn submitted_by_a_client(ready: &Ready) -> Result<(), Box<dyn std::error::Error>> {
    let prepared = ready.system.prepare(Some(&ready.profile), &ready.calibration)?;
    let Some(certificate) = certificate(ready, &prepared) else { return Ok(()) };
    let control = Arc::new(ControlRequest::default());
    let mut options = options(Nanos::from_millis(60_000));
    options.control = Arc::clone(&control);
    let feed = ready.system.models()[0].feed()?;
    let (tell, told) = std::sync::mpsc::channel();
    let application = move |mut clients: Vec<Client>| {
        let client = clients.remove(0);
        std::thread::spawn(move || {
            let _gone = tell.send(submit(&client, &feed, 6));
            control.ask(Control::Drain);
        });
    };
    let (system, profile) = (&ready.system, Some(&ready.profile));
    run_with(system, &prepared, certificate, profile, &ready.calibration, &options, application)?;
    let (fates, outputs) = told.recv()?;
    let accepted =
        fates.iter().filter(|fate| matches!(fate, Fate::Ended { outcome: JobOutcome::Completed, .. }));
    assert_eq!(accepted.count(), 6, "{fates:?}");
    assert!(fates.contains(&Fate::Refused(Refusal::TooEarly)), "two submissions at once: {fates:?}");
    let model = &ready.system.models()[0];
    let mut plain = Reference::open(&ready.runtime, &model.artifact, &model.config.shapes)?;
    let (mut h, mut c) = (vec![0; 512], vec![0; 512]);
    for (number, outputs) in outputs.iter().enumerate() {
        let expected = plain.run(&[model.feed()?.sample(number as u64)[0].clone(), h, c])?;
        assert_eq!(*outputs, expected, "job {number}");
        [h, c] = [expected[1].clone(), expected[2].clone()];
    }
    Ok(())
}

/// Submits jobs a period and more apart, each followed at once by one that is too early.
fn submit(client: &Client, feed: &Feed, jobs: u64) -> (Vec<Fate>, Vec<Vec<Vec<u8>>>) {
    let (mut fates, mut outputs) = (Vec::new(), Vec::new());
    for number in 0..jobs {
        std::thread::sleep(Duration::from_millis(150));
        for _ in 0..2 {
            let mut packet = client.packet().expect("at most two are under way");
            packet.inputs.clone_from_slice(feed.sample(number));
            client.submit(packet).expect("the driver keeps up");
        }
        for _ in 0..2 {
            let packet = loop {
                match client.returned() {
                    Some(packet) => break packet,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            let fate = packet.fate().expect("it came back");
            if matches!(fate, Fate::Ended { .. }) {
                outputs.push(packet.outputs.clone());
            }
            fates.push(fate);
            client.recycle(packet);
        }
    }
    (fates, outputs)
}

fn released_by_timer(ready: &Ready) -> Result<(), Box<dyn std::error::Error>> {
    let prepared = ready.system.prepare(Some(&ready.profile), &ready.calibration)?;
    let Some(certificate) = certificate(ready, &prepared) else { return Ok(()) };
    let (system, profile) = (&ready.system, Some(&ready.profile));
    let options = options(Nanos::from_millis(2_000));
    let report = run(system, &prepared, certificate, profile, &ready.calibration, &options)?;
    let task = &report.tally.tasks()[0];
    println!(
        "{}: {} jobs, response p50 {} max {} beside WCRT {} and deadline {}; covered {:.3}",
        task.name,
        task.completed(),
        Nanos::new(task.responses.value_at_quantile(0.5)),
        task.response_max,
        task.wcrt,
        task.deadline,
        task.covered_fraction()
    );
    assert!(task.completed() >= 2, "{task:?}");
    assert_eq!((task.certified_misses, task.bound_violations), (0, 0), "{task:?}");
    assert_eq!(report.lanes[0].models[0].outputs.len(), task.completed().min(4) as usize);
    Ok(())
}
