//! Adobe Analytics Livestream and the identity service that gives its tokens,
//! with hits that follow from a seed, for trying and testing the
//! `adobe_livestream` source.
//!
//! What it does is what is known of the real one: its documentation and its
//! sample client. It does not know our client.

mod control;
mod feed;
mod hit;
mod log;
mod respond;
mod script;
mod stream;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use lakeward_model::clock::SharedClock;
use lakeward_model::{Secret, Timestamp};

pub use script::{ALL, Rule, What, read};

use crate::Running;
use feed::{Feed, Production};
use log::Log;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// The same seed means the same hits, but for their times.
    pub seed: u64,
    /// The Livestream's whole name: `adobe-livestream-demo`.
    pub name: String,
    /// The credential's client id.
    pub client_id: String,
    /// The credential's secret.
    pub client_secret: Secret,
    /// Hits a second; 0: all of them are there from the beginning.
    pub rate: u64,
    /// How many hits there are in all.
    pub hits: u64,
    /// How long a token is good.
    pub token_life: Duration,
    /// How long a hit can be had. Adobe: "several minutes".
    pub backlog: Duration,
    /// How much of what was sent last is sent again to one who was cut off.
    pub repeats: Duration,
    /// After how long without a hit an empty record is sent.
    pub keep_alive: Duration,
    /// Whether the stream is behind a redirection to another port.
    pub redirect: bool,
    /// What may go wrong, drawn from the seed.
    pub misbehave: Vec<What>,
    /// What goes wrong for certain; comes before what is drawn.
    pub script: Vec<Rule>,
}

/// A simulated Livestream.
#[derive(Debug)]
struct Simulator {
    options: Options,
    production: Production,
    clock: SharedClock,
    /// Where the stream is, if it is behind a redirection.
    back: OnceLock<String>,
    log: Log,
    state: Mutex<Changing>,
}

#[derive(Debug)]
struct Changing {
    feed: Feed,
    /// Tokens and when they expire.
    tokens: HashMap<String, Timestamp>,
    tokens_made: u64,
    /// Requests for the stream, with a good token.
    opened: u64,
    /// What connections are told to do.
    told: BTreeMap<u64, What>,
}

impl Simulator {
    fn state(&self) -> MutexGuard<'_, Changing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Livestream that is served.
#[derive(Debug)]
pub struct Livestream {
    front: Running,
    back: Option<Running>,
}

impl Livestream {
    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.front.url()
    }

    /// Stops: no new connections, and those that are open are cut.
    pub async fn stop(self) {
        self.front.stop().await;
        if let Some(back) = self.back {
            back.stop().await;
        }
    }
}

/// Serves on `listen`, whose port 0 takes a free one, until it is stopped.
///
/// # Errors
/// The address cannot be listened on: choose another.
pub async fn serve(options: Options, clock: SharedClock, listen: SocketAddr) -> std::io::Result<Livestream> {
    let production = Production {
        seed: options.seed,
        started: clock.now(),
        rate: options.rate,
        hits: options.hits,
        backlog: options.backlog,
        repeats: options.repeats,
    };
    let redirect = options.redirect;
    let simulator = Arc::new(Simulator {
        options,
        production,
        clock,
        back: OnceLock::new(),
        log: Log::default(),
        state: Mutex::new(Changing {
            feed: Feed::new(production),
            tokens: HashMap::new(),
            tokens_made: 0,
            opened: 0,
            told: BTreeMap::new(),
        }),
    });
    let stream = |is_front| {
        let state = (Arc::clone(&simulator), is_front);
        Router::new().route("/api/{version}/stream/{name}", get(respond::open)).with_state(state)
    };
    let back = match redirect {
        true => Some(Running::start(SocketAddr::new(listen.ip(), 0), stream(false)).await?),
        false => None,
    };
    if let Some(back) = &back {
        // It was never set before.
        let _ = simulator.back.set(back.url());
    }
    let router = Router::new()
        .route("/ims/token/v3", post(respond::token))
        .route("/_simulate/oracle", get(control::oracle))
        .route("/_simulate/hits", get(control::hits))
        .route("/_simulate/requests", get(control::requests))
        .route("/_simulate/state", get(control::state))
        .route("/_simulate/tell", post(control::tell))
        .with_state(Arc::clone(&simulator))
        .merge(stream(true));
    let front = Running::start(listen, router).await?;
    Ok(Livestream { front, back })
}
