//! Recurrent state against an oracle without devices: the output of the last job that succeeded feeds the next.

use aegis_context::{ExecutionContext, Lane, Slot};
use aegis_cuda::script::expected_outputs;
use aegis_cuda::sim::{Fault, FaultKind, FaultTrigger};
use aegis_types::LaneId;
use aegis_types::records::SegmentOutcome;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use crate::fixture::{Bench, STATEFUL, lane, output, scripted, sim, stateful_plan, with_request};

/// What a job meets: the number of the launch within the job that a fault strikes, and the fault.
#[derive(Clone, Debug)]
struct Job {
    input: u8,
    fault: Option<(u64, FaultKind)>,
    reset: bool,
}

fn job() -> impl Strategy<Value = Job> {
    let kind = prop_oneof![
        proptest::strategy::Just(FaultKind::Fails),
        proptest::strategy::Just(FaultKind::NotStarted),
        proptest::strategy::Just(FaultKind::Hang(aegis_types::Nanos::from_millis(1))),
    ];
    let fault = proptest::option::weighted(0.4, (0u64..2, kind));
    (any::<u8>(), fault, proptest::bool::weighted(0.1)).prop_map(|(input, fault, reset)| Job {
        input,
        fault,
        reset,
    })
}

/// Runs one job; `None` if it was abandoned. Failed launches are not tried again.
fn run(bench: &Bench, lane: &mut Lane, context: &mut ExecutionContext, slot: u32, input: u8) -> (u64, bool) {
    context.write_input(Slot(slot), 0, &[input; 16]).expect("fits");
    for segment in 0..2 {
        let report = bench.launch(lane, context, slot, segment);
        if report.outcome != SegmentOutcome::Done {
            return (u64::from(segment) + 1, false);
        }
    }
    (2, true)
}

fn check(jobs: &[Job], slots: u32) -> Result<(), TestCaseError> {
    let device = sim();
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let plan = stateful_plan(slots);
    let mut context = bench.create(0, STATEFUL, &scripted(), &mut lane, &plan).expect("fits");
    let (mut state, mut launches) = (vec![0; 8], 0);
    for (number, job) in (0u32..).zip(jobs) {
        if job.reset {
            context.reset_state();
            state = vec![0; 8];
        }
        if let Some((at, kind)) = &job.fault {
            let trigger = FaultTrigger::Launch(launches + at);
            device.inject(Fault { lane: LaneId::new(0), trigger, kind: kind.clone() });
        }
        let slot = number % slots;
        let (launched, succeeded) = run(&bench, &mut lane, &mut context, slot, job.input);
        launches += launched;
        let ends = !matches!(job.fault, Some((_, FaultKind::Fails | FaultKind::NotStarted)));
        prop_assert_eq!(succeeded, ends, "job {}", number);
        if succeeded {
            let inputs = [vec![job.input; 16], state.clone()];
            let expected =
                with_request(STATEFUL, |request| expected_outputs(request, &inputs)).expect("legal");
            let seen = [output(&context, slot, 0), output(&context, slot, 1)];
            prop_assert_eq!(&seen[..], &expected[..], "job {}", number);
            state.clone_from(&expected[1]);
        }
    }
    prop_assert_eq!(device.scratch_collisions(), []);
    Ok(())
}

proptest! {
    #[test]
    fn state_is_the_output_of_the_last_job_that_succeeded(jobs in vec(job(), 1..12), slots in 1u32..4) {
        check(&jobs, slots)?;
    }
}
