//! Real models on the host device, end to end through the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime};
use aegis_sched::admission::{AdmissionController, AdmissionRequest, Verdict};
use aegis_types::Nanos;
use aegisrt::calibrate::CalibrateOptions;
use aegisrt::config::Fleet;
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::measure;
use aegisrt::plant::ControlRequest;
use aegisrt::profile::ProfileOptions;
use aegisrt::run::{RunOptions, run};
use aegisrt::system::Builder;

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

#[test]
fn a_model_runs_on_one_lane_under_a_certificate() -> Result<(), Box<dyn std::error::Error>> {
    let Some(cache) = cache() else { return Ok(()) };
    let fleet = Fleet::parse(Path::new("fleet.toml"), &silero(&cache))?;
    let runtime = OnnxRuntime::load(&cache.join("onnxruntime/libonnxruntime.so"))?;
    let loaders = Loaders::default().with(Arc::new(OnnxLoader::new(runtime)));
    let system = Builder::new(fleet).loaders(loaders).build(|_| {})?;
    let short = CalibrateOptions { duration: Nanos::from_millis(500), ..CalibrateOptions::default() };
    let (calibration, _) = measure::calibrate(&system, Path::new("platform.json"), short, false)?;
    let quick = ProfileOptions { time_per_task: Nanos::from_millis(500), ..ProfileOptions::default() };
    let (profile, _) =
        measure::profile(&system, &calibration, Path::new("profile.json"), quick, 500_000, false, |_| {})?;
    let prepared = system.prepare(Some(&profile), &calibration)?;
    let controller = AdmissionController::new(Box::new(Arc::clone(system.policy())));
    let report = controller.analyze(&AdmissionRequest::new(&prepared.set).tight());
    let Verdict::Admitted(certificate) = report.verdict else {
        // A machine so loaded that 100 ms are not enough certifies nothing, and that is the right answer.
        println!("skipped: refused on this machine: {:?}", report.refusal().map(ToString::to_string));
        return Ok(());
    };
    let options = RunOptions {
        duration: Nanos::from_millis(
            std::env::var("AEGIS_RUN_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(1_000),
        ),
        trace: None,
        keep_outputs: 4,
        poison: true,
        realtime: false,
        control: Arc::new(ControlRequest::default()),
        live: Arc::new(Live::default()),
    };
    let report = run(&system, &prepared, certificate, Some(&profile), &calibration, &options)?;
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
