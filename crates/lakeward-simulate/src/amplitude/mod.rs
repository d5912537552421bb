//! Amplitude's Export API (`GET /api/2/export`) with events that follow from a
//! seed, for trying and testing the `amplitude` source.
//!
//! What it does is what is known of the real one: its documentation, its
//! users' reports, and other connectors' code. It does not know our client.

mod archive;
mod body;
mod control;
mod event;
mod export;
mod hour;
mod log;
mod mischief;
mod oracle;
mod plan;
mod respond;
mod script;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lakeward_model::Secret;
use tokio::sync::Semaphore;

pub use hour::{Hour, NoHour};
pub use oracle::{Asked, oracle};
pub use plan::Volume;
pub use script::{ALL, Hours, Numbers, Rule, What, read};

use crate::{Running, SimulatedClock};
use log::Log;
use mischief::Mischief;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// The same seed means the same events, for ever.
    pub seed: u64,
    /// The project's number, in members' names and in `app`.
    pub project: u64,
    /// The user of basic auth.
    pub api_key: String,
    /// The password of basic auth.
    pub secret_key: Secret,
    /// The first hour with events.
    pub from: Hour,
    /// The first hour without events behind them.
    pub to: Hour,
    /// How many events an hour has.
    pub volume: Volume,
    /// Hours of other sizes: about so many zipped bytes each.
    pub big_hours: Vec<(Hour, u64)>,
    /// How long after its end an hour can be had. Amplitude: 2 hours.
    pub delay: Duration,
    /// Larger exports are refused with 400. Amplitude: 4 GB, zipped.
    pub too_large_bytes: u64,
    /// Exports at a time; more are answered 429. Amplitude: 5.
    pub concurrent: usize,
    /// Archives have ZIP64 fields even where they are small.
    pub zip64: bool,
    /// What may go wrong, drawn from the seed.
    pub misbehave: BTreeSet<What>,
    /// What goes wrong for certain; comes before what is drawn.
    pub script: Vec<Rule>,
}

/// A simulated Amplitude.
#[derive(Debug)]
struct Simulator {
    options: Arc<Options>,
    clock: SimulatedClock,
    mischief: Mutex<Mischief>,
    log: Log,
    places: Arc<Semaphore>,
}

/// Serves on `listen`, whose port 0 takes a free one, until it is stopped.
///
/// # Errors
/// The address cannot be listened on: choose another.
pub async fn serve(options: Options, clock: SimulatedClock, listen: SocketAddr) -> std::io::Result<Running> {
    let mischief = Mischief::new(options.seed, options.misbehave.clone(), options.script.clone());
    let simulator = Arc::new(Simulator {
        places: Arc::new(Semaphore::new(options.concurrent)),
        options: Arc::new(options),
        clock,
        mischief: Mutex::new(mischief),
        log: Log::default(),
    });
    let router = Router::new()
        .route("/api/2/export", get(respond::export))
        .route("/_simulate/oracle", get(control::oracle))
        .route("/_simulate/uuids", get(control::uuids))
        .route("/_simulate/requests", get(control::requests))
        .route("/_simulate/clock", get(control::clock).post(control::set_clock))
        .with_state(simulator);
    Running::start(listen, router).await
}
