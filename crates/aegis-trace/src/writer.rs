//! The thread that drains the rings once per flush period. The only thread of this crate; it is started by the
//! composition root and shares nothing with producers but their rings.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use aegis_types::Nanos;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::collector::TraceCollector;
use crate::error::TraceError;

/// A running writer. Dropped without [`TraceWriter::stop`] it lets its thread drain the rings once more and end; the
/// file then lacks its closing chunk and stays readable.
#[derive(Debug)]
pub struct TraceWriter {
    orders: Sender<Order>,
    thread: JoinHandle<(TraceCollector, Result<(), TraceError>)>,
}

/// The shortest flush period.
const PERIOD_MIN: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum Order {
    /// Drain at once and say how it went.
    Flush(Sender<Result<(), TraceError>>),
}

impl TraceWriter {
    /// Starts a thread that pumps `collector` every `period`. A period below a millisecond is taken as one, so that
    /// the thread never spins.
    ///
    /// # Errors
    /// [`TraceError::NoThread`].
    pub fn start(collector: TraceCollector, period: Nanos) -> Result<Self, TraceError> {
        let (orders, inbox) = bounded(1);
        let period = Duration::from_nanos(period.get()).max(PERIOD_MIN);
        let thread = Builder::new()
            .name("trace-writer".to_owned())
            .spawn(move || pump_until_stopped(collector, &inbox, period))
            .map_err(|e| TraceError::NoThread { source: Arc::new(e) })?;
        Ok(Self { orders, thread })
    }

    /// Drains every ring and waits until it is done: for the moment before the process ends in an orderly failure.
    ///
    /// # Errors
    /// [`TraceError::Write`]; [`TraceError::WriterLost`].
    pub fn flush(&self) -> Result<(), TraceError> {
        let (done, answer) = bounded(1);
        self.orders.send(Order::Flush(done)).map_err(|_| TraceError::WriterLost)?;
        answer.recv().map_err(|_| TraceError::WriterLost)?
    }

    /// Ends the thread after a last drain and gives the collector back, ready to be finished.
    ///
    /// # Errors
    /// The first error that the thread met; [`TraceError::WriterLost`] if it panicked.
    pub fn stop(self) -> Result<TraceCollector, TraceError> {
        drop(self.orders);
        let (collector, outcome) = self.thread.join().map_err(|_| TraceError::WriterLost)?;
        outcome.map(|()| collector)
    }
}

/// Runs until every sender of orders is gone. An error does not end it: producers must find room in their rings.
fn pump_until_stopped(
    mut collector: TraceCollector,
    inbox: &Receiver<Order>,
    period: Duration,
) -> (TraceCollector, Result<(), TraceError>) {
    let mut outcome = Ok(());
    loop {
        let order = inbox.recv_timeout(period);
        let pumped = collector.pump().map(|_| ());
        outcome = outcome.and(pumped.clone());
        match order {
            // Whoever asked may have gone; the drain is done either way.
            Ok(Order::Flush(done)) => drop(done.send(pumped)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return (collector, outcome),
        }
    }
}
