//! What is refused when a model is put on a lane, and that nothing stays taken.

use std::sync::atomic::{AtomicU32, Ordering};

use aegis_context::{ContextError, ExecutionContext, ExecutionState, IoPlan, LaneState, Slot};
use aegis_cuda::{
    BackendError, BackendLoader, DeviceSlice, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend,
    Stream,
};
use aegis_types::{Bytes, Extent, MemoryClass, MemoryGrant, ResourceBudget, Severity};

use crate::fixture::{Bench, PART, STATEFUL, budget, lane, scripted, sim, stateful_plan, with_request};

/// Counts how often the loader inside is asked to load.
struct Counted<L>(L, AtomicU32);

impl<L: BackendLoader> BackendLoader for Counted<L> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        self.0.inspect(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.load(request, stream, memory)
    }
}

/// Creates with this budget and plan; on a refusal nothing may stay taken or lent. Returns how often was loaded.
fn attempt(script: &str, budget: &ResourceBudget, plan: &IoPlan) -> (Option<ContextError>, u32) {
    let device = sim();
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let loader = Counted(scripted(), AtomicU32::new(0));
    let made = with_request(script, |request| {
        ExecutionContext::create(request, budget, &loader, &mut lane, bench.memory(0), plan, None)
    });
    let error = made.err();
    assert_eq!(bench.grants[0].used_total(), Bytes::ZERO, "{error:?}");
    let whole = Extent { offset: Bytes::ZERO, len: bench.region.size() };
    DeviceSlice::lend(&bench.region, whole).expect("nothing stays lent");
    assert!(matches!(lane.state(), LaneState::Idle(_)));
    (error, loader.1.load(Ordering::Relaxed))
}

fn refused(script: &str, budget: &ResourceBudget, plan: &IoPlan, words: &[&str], loads: u32) {
    let (error, loaded) = attempt(script, budget, plan);
    let error = error.expect("refused");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert_eq!((error.severity(), loaded), (Severity::Permanent, loads), "{text}");
}

#[test]
fn budgets_are_enforced_before_loading() {
    let none = ResourceBudget { streams: 0, ..budget(PART) };
    refused(STATEFUL, &none, &IoPlan::single(), &["`m`", "0 streams"], 0);
    refused(STATEFUL, &budget(4095), &IoPlan::single(), &["weights needs 4KiB", "4095B"], 0);
    refused(STATEFUL, &budget(5 * 1024), &IoPlan::single(), &["as described", "6KiB", "5KiB"], 0);
    assert_eq!(
        attempt(STATEFUL, &budget(6 * 1024), &IoPlan::single()).0,
        None,
        "four tensors of 256 B slots"
    );
    refused(STATEFUL, &budget(7 * 1024), &stateful_plan(6), &["as described"], 0);
}

#[test]
fn the_grant_is_the_last_word() {
    let vast = "script 1\nweights 128KiB\nsegment 1us\nend";
    refused(vast, &budget(4 * PART), &IoPlan::single(), &["128KiB asked for"], 1);
    let wide = "script 1\ninput x u8 131072\nsegment 1us\nend";
    refused(wide, &budget(4 * PART), &IoPlan::single(), &["`x`", "Exchange"], 1);
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let plan = |input_slots, output_slots, state: &[(&str, &str)]| IoPlan {
        input_slots,
        output_slots,
        state: state.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect(),
    };
    let check = |plan: &IoPlan, words: &[&str]| refused(STATEFUL, &budget(PART), plan, words, 0);
    check(&plan(0, 1, &[]), &["0 input slots", "1 to 4096"]);
    check(&plan(2, 3, &[]), &["3 output slots", "1 to 2"]);
    check(&plan(1, 1, &[("h3", "h")]), &["no output `h3`", "y, h2"]);
    check(&plan(1, 1, &[("h2", "g")]), &["no input `g`", "x, h"]);
    check(&plan(1, 1, &[("y", "h")]), &["`y` -> `h`", "equal type and shape"]);
    check(&plan(1, 1, &[("h2", "h"), ("h2", "h")]), &["fed twice"]);
}

#[test]
fn a_context_knows_what_it_uses_and_gives_it_back() {
    let device = sim();
    let bench = Bench::on(&device);
    let mut lane = lane(&device, 0);
    let plan = stateful_plan(3);
    let context = bench.create(0, STATEFUL, &scripted(), &mut lane, &plan).expect("it fits");
    assert_eq!((context.state(), context.slots(), context.segments()), (ExecutionState::Ready, 3, 2));
    let used = context.memory();
    assert_eq!(used.persistent, Bytes::new(4096));
    // Three inputs, one state input, two slots of two outputs, and what one segment hands to the next.
    assert_eq!(used.exchange, Bytes::new(3 * 16 + 8 + 2 * (16 + 8) + 8));
    assert_eq!(used.scratch, bench.grants[0].high_water(MemoryClass::Scratch));
    let error = context.write_input(Slot(3), 0, &[0; 16]).expect_err("no such slot").to_string();
    assert!(error.contains("slot 3") && error.contains("3 slots"), "{error}");
    let error = context.write_input(Slot(0), 0, &[0; 15]).expect_err("too short").to_string();
    assert!(error.contains("exactly 16"), "{error}");
    drop(context);
    assert_eq!(bench.grants[0].used_total(), Bytes::ZERO);
}
