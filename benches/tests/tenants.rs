//! Tenants on one host: the generated fleet of four groups, admitted within their budgets and served by the backend
//! `tract` while the clients of one group submit more than it declared.
//!
//! Nothing is asked of how fast the machine is: a stall of it may make any group miss. What is asked is that the overload
//! is refused and counted where it belongs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_backend_onnx::TractLoader;
use aegis_benches::networks::fleets::{Costs, FleetPlan, Kind, Place, write};
use aegis_benches::networks::{Precision, Size};
use aegis_sched::{AdmissionController, AdmissionRequest, Certificate, Overheads};
use aegis_types::records::Control;
use aegis_types::{Bytes, Nanos};
use aegisrt::client::Client;
use aegisrt::config::{BackendKind, Calibration, Fleet, Prepared};
use aegisrt::error::RuntimeError;
use aegisrt::groups::observed::{Agreement, Served, served};
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::plant::ControlRequest;
use aegisrt::run::{RunOptions, run_with};
use aegisrt::system::{Builder, System, slots_by_contract};
use aegisrt::waiting::Waiting;
use toml::{Table, Value};

/// The text of the fleet of tenants on one core, with networks beside it. Jobs are declared to take a fortieth of their
/// periods, for want of a profile.
fn written(folder: &Path) -> Table {
    let plan = FleetPlan { size: Size::Tiny, ..*FleetPlan::find("tenants12").expect("a fleet") };
    let place = Place {
        kind: Kind::Host,
        backend: BackendKind::Tract.name().to_owned(),
        precision: Precision::Fp32,
        cores: vec![0],
        sms: 0,
        lanes: 0,
        critical: 0,
    };
    let target = "0.005".parse().expect("a utilisation");
    let written = write(&plan, &place, &Costs::default(), target, folder).expect("a fleet");
    let text = std::fs::read_to_string(&written.fleet).expect("it was written");
    let mut table: Table = text.parse().expect("it was written as TOML");
    for (task, (_, _, _, time)) in tasks(&mut table).zip(&written.tasks) {
        let compute = format!("{}ns", time.period.get() / 40);
        task["budget"].as_table_mut().expect("a budget").insert("compute".into(), compute.into());
    }
    table
}

fn tasks(table: &mut Table) -> impl Iterator<Item = &mut Table> {
    table["task"].as_array_mut().expect("tasks").iter_mut().filter_map(Value::as_table_mut)
}

/// The fleet on this host.
fn system(folder: &Path, table: &Table) -> System {
    let fleet = Fleet::parse(&folder.join("fleet.toml"), &table.to_string()).expect("the runtime reads it");
    let loaders = Loaders::default().with(Arc::new(TractLoader::new()));
    Builder::new(fleet).loaders(loaders).build(|_| {}).expect("every network is described")
}

fn calibration() -> Calibration {
    let micro = Nanos::from_micros(1);
    let overheads = Overheads {
        handoff: Nanos::from_millis(1),
        wakeup: Nanos::from_millis(1),
        poll: micro,
        client: micro,
        stall: Nanos::from_millis(5_000),
        ..Overheads::default()
    };
    Calibration::new(Path::new("platform.json"), overheads)
}

fn admitted(system: &System) -> (Prepared, Certificate) {
    let prepared = system.prepare(None, &calibration()).expect("every job has a budget");
    let controller = AdmissionController::new(Box::new(Arc::clone(system.policy())));
    let report = controller.analyze(&AdmissionRequest::new(&prepared.set).tight());
    let certificate = report.certificate().expect("a tenth of a core and a bit fits").clone();
    (prepared, certificate)
}

fn options(duration: Nanos, control: &Arc<ControlRequest>) -> RunOptions {
    RunOptions {
        duration,
        trace: None,
        keep_outputs: 0,
        poison: true,
        realtime: false,
        waiting: Waiting::Blocking,
        control: Arc::clone(control),
        live: Arc::new(Live::default()),
    }
}

/// Submits pairs of jobs, the second of which no contract lets in, until each of the clients has sent six.
fn overload(clients: &[Client]) {
    for client in clients {
        for _ in 0..3 {
            let sent = (0..2)
                .filter(|_| client.packet().is_some_and(|packet| client.submit(packet).is_ok()))
                .count();
            assert_eq!(sent, 2, "packets come back");
            for _ in 0..sent {
                let packet = loop {
                    match client.returned() {
                        Some(packet) => break packet,
                        None => std::thread::sleep(Duration::from_millis(1)),
                    }
                };
                client.recycle(packet);
            }
        }
    }
}

#[test]
fn a_tenant_in_overload_breaks_its_own_agreement() {
    let folder = tempfile::tempdir().expect("a folder");
    let system = system(folder.path(), &written(folder.path()));
    let (prepared, certificate) = admitted(&system);
    let control = Arc::new(ControlRequest::default());
    let options = options(Nanos::from_millis(120_000), &control);
    let application = |clients: Vec<Client>| {
        assert_eq!(clients.len(), 3, "the tasks of one tenant have clients");
        std::thread::spawn(move || {
            overload(&clients);
            control.ask(Control::Drain);
        });
    };
    let report = run_with(&system, &prepared, certificate, None, &calibration(), &options, application);
    let report = report.expect("the fleet runs");
    let groups: Vec<(&str, Served, Agreement)> = served(system.fleet(), &report.tally)
        .into_iter()
        .map(|(config, served)| (config.name.as_str(), served, served.keeps(config.miss_rate)))
        .collect();
    println!("{groups:?}");
    for (name, served, agreement) in &groups {
        if *name == "burst" {
            assert_eq!(served.jobs, 18, "every submission counts");
            assert!(served.refused >= 9, "of each pair one at least is too early: {served:?}");
            assert_eq!(*agreement, Agreement::Broken);
        } else {
            assert_eq!(served.refused, 0, "{name} stays within its contract: {served:?}");
        }
    }
}

/// Whoever takes less than a group asks for is refused before anything is loaded.
#[test]
fn a_group_beyond_its_budget_does_not_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = written(folder.path());
    let refused = |table: &Table| {
        let system = system(folder.path(), table);
        let (prepared, certificate) = admitted(&system);
        let options = options(Nanos::from_millis(1), &Arc::new(ControlRequest::default()));
        let ready = |_| panic!("nothing is served");
        match run_with(&system, &prepared, certificate, None, &calibration(), &options, ready) {
            Err(RuntimeError::Group(excess)) => excess.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let change = |key: &str, value: Value| {
        let mut changed = table.clone();
        let groups = changed["group"].as_array_mut().expect("groups");
        groups[2].as_table_mut().expect("a group").insert(key.to_owned(), value);
        refused(&changed)
    };
    let said = change("memory", "3MiB".into());
    assert!(said.contains("group `bronze`") && said.contains("its budget is 3MiB"), "{said}");
    let said = change("utilisation", 0.05.into());
    assert!(
        said.contains("its budget is 0.05") && said.contains("would fit with all periods of the group times"),
        "{said}"
    );
    // As written it fits: what the tasks are granted is the group's, and a quarter of the lane is more than enough.
    let system = system(folder.path(), &table);
    let (prepared, _) = admitted(&system);
    let slots = slots_by_contract(&prepared.set);
    system.check_groups(&prepared.set, None, &slots).expect("it fits");
    let granted: u64 = system.fleet().tasks().iter().map(|task| task.budget.memory.get()).sum();
    let groups: u64 = system.fleet().groups().iter().filter_map(|group| group.memory).map(Bytes::get).sum();
    assert_eq!(granted, groups);
}
