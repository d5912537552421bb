//! Runs that replace what a pipeline delivered of their slices.
//!
//! Five steps, and a crash behind any of them goes on with the next:
//!
//! 1. What is under way when the run begins ends, and is delivered. Then the
//!    batches that hold the slices, and the slices that these hold besides, are
//!    found and become durable ([`Ledger::begin_replacement`]).
//! 2. All these slices are taken again under ids of the run.
//! 3. All of that is delivered.
//! 4. The old batches are marked as replaced, in one transaction: from then on
//!    the new files count ([`Ledger::replace_batches`]).
//! 5. The old files are removed, in the background.
//!
//! If the run ends before the fourth step, nothing is removed; what it added
//! is replaced by the next such run, since that finds all batches of the
//! slices.
//!
//! [`Ledger::begin_replacement`]: crate::ledger::Ledger::begin_replacement
//! [`Ledger::replace_batches`]: crate::ledger::Ledger::replace_batches

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lakeward_model::{Failure, LakePath, Offset, SliceId, Wanted};
use tracing::{info, warn};
use uuid::Uuid;

use super::admit::{Again, Purpose};
use super::choose::Listed;
use super::flow::{Flow, State};
use crate::engine::RemoveFile;
use crate::ledger::replacements::{Found, OldSlice, Replacement, SLICES_MAX, Search};
use crate::ledger::runs::{Run, RunError, RunErrorKind, RunKind, RunRequest};
use crate::slices::SlicesError;
use crate::source::pause_after;
use crate::spec::PipelineSpec;

/// How often it is looked how far the pipeline is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often what is to be replaced is looked for while more of it comes.
const SEARCHES_MAX: u32 = 20;
/// Slices, batches and files that are done at a time.
const SLICES: usize = 256;
const BATCHES: usize = 64;
const FILES: usize = 8;

/// Why a run does not go on.
pub(super) enum Stop {
    /// The process stops.
    Process,
    /// Somebody ended the run.
    Over,
    /// It cannot be done; for people.
    Impossible(String),
}

/// The process stops if there is no answer.
fn answered<T>(answer: Option<T>) -> Result<T, Stop> {
    answer.ok_or(Stop::Process)
}

impl Flow {
    /// Whether a run may replace what a pipeline delivered: no wrong row may
    /// come of it.
    pub(super) fn may_replace(&self, asked: &mut RunRequest) -> Result<(), SlicesError> {
        let Some(name) = asked.replace.clone() else { return Ok(()) };
        if asked.kind != RunKind::Take {
            return Err(SlicesError::Invalid("only a run that takes slices can replace them".into()));
        }
        asked.again = true;
        self.replaceable(&name).map(|_| ()).map_err(SlicesError::Invalid)
    }

    /// The pipeline's settings, its destination's name and how files are
    /// removed there.
    fn replaceable(&self, name: &str) -> Result<(PipelineSpec, String, RemoveFile), String> {
        let shared = &self.intake.shared;
        let Some(spec) = shared.spec(name).filter(|spec| spec.stream == self.stream) else {
            return Err(format!("no pipeline named {name} delivers the stream {}", self.stream));
        };
        if spec.shape.dedup.is_some() {
            return Err(format!(
                "the pipeline {name} has `dedup`: what is taken once more would be dropped as duplicates before it could replace anything; `lakeward pull --force` adds what is missing"
            ));
        }
        let others =
            shared.specs().into_iter().find(|other| other.stream == self.stream && other.name != name);
        if let Some(other) = others {
            return Err(format!(
                "the pipeline {} delivers the stream {}, too, and would get every record once more: slices can be replaced where a stream has one pipeline",
                other.name, self.stream
            ));
        }
        let opened = (shared.connectors.destination)(&spec.destination)
            .map_err(|error| format!("the destination of {name} cannot be opened: {error}"))?;
        let Some(remove) = opened.remove else {
            return Err(format!("the destination {} cannot remove files", opened.name));
        };
        Ok((spec, opened.name, remove))
    }

    fn goes_on(&self, run: Uuid) -> Result<(), Stop> {
        if self.stop.is_cancelled() {
            return Err(Stop::Process);
        }
        if self.runs.goes_on(run) { Ok(()) } else { Err(Stop::Over) }
    }

    async fn sleep(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// The first step: finds what is replaced, unless that was found in an
    /// earlier life.
    pub(super) async fn find_replaced(
        &self,
        run: &Run,
        pipeline: &str,
        wanted: &Wanted,
    ) -> Result<Replacement, Stop> {
        let id = run.id;
        if let Some(known) = answered(self.ledger(move |ledger| ledger.replacement(id)).await)? {
            return Ok(known);
        }
        let (_, destination, _) = self.replaceable(pipeline).map_err(Stop::Impossible)?;
        let (pipeline, incarnation) = (pipeline.to_string(), self.incarnation);
        let replacement = Arc::new(Replacement { pipeline, incarnation, destination, removing: false });
        let names = Arc::new(self.names(id, wanted).await?);
        // What was begun before may be of the same slices.
        let before: HashSet<SliceId> = self.state().flights.keys().copied().collect();
        let landed = self.until(|state| {
            let is_over = !self.runs.goes_on(id) || state.refusals.to(id).is_some();
            if is_over || !before.iter().any(|id| state.flights.contains_key(id)) {
                Ok(())
            } else {
                Err(None)
            }
        });
        answered(landed.await)?;
        if let Some(refused) = self.state().refusals.to(id) {
            return Err(Stop::Impossible(refused));
        }
        for _ in 0..SEARCHES_MAX {
            self.goes_on(id)?;
            let known = answered(self.ledger(move |ledger| ledger.known_slices(incarnation)).await)?;
            let Some(known) = known.map(Arc::new) else {
                let said = format!("the stream has more than {SLICES_MAX} slices");
                return Err(Stop::Impossible(said));
            };
            // Read behind it: all that it knows is in the stream before this.
            let end = self.intake.shared.journal.tail(&self.stream).map_or(Offset(0), |tail| tail.end);
            self.delivered(id, &replacement.pipeline, end).await?;
            let (asked, wanted) = (Arc::clone(&replacement), Arc::clone(&names));
            let search = self.ledger(move |ledger| ledger.find_replaced(&asked, &wanted, &known));
            let found = match answered(search.await)? {
                Search::Found(found) => Arc::new(found),
                Search::Impossible(said) => return Err(Stop::Impossible(said)),
                Search::Unsettled => {
                    self.sleep(LOOK_EVERY).await;
                    continue;
                }
            };
            self.all_there(id, &found).await?;
            let (begun, of) = (Arc::clone(&replacement), Arc::clone(&found));
            if answered(self.ledger(move |ledger| ledger.begin_replacement(id, &begun, &of)).await)? {
                let widened = found.slices.iter().filter(|(slice, _)| slice.widened).count();
                info!(source = self.name, run = %id, batches = found.batches.len(), slices = found.slices.len(), widened, "what is replaced is known");
                return Ok(Replacement::clone(&replacement));
            }
        }
        Err(Stop::Impossible(String::from(
            "files of these slices also hold slices that are still coming: ask again when the source is quiet",
        )))
    }

    /// The names of what a run wants.
    async fn names(&self, run: Uuid, wanted: &Wanted) -> Result<BTreeSet<String>, Stop> {
        let (mut names, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.page_for(run, wanted, after.as_deref()).await?;
            names.extend(page.0);
            if names.len() > SLICES_MAX {
                return Err(Stop::Impossible(format!("it means more than {SLICES_MAX} slices")));
            }
            match page.1 {
                Some(next) => after = Some(next),
                None => return Ok(names),
            }
        }
    }

    async fn page_for(
        &self,
        run: Uuid,
        wanted: &Wanted,
        after: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), Stop> {
        let is_over = |state: &State| state.refusals.to(run).is_some() || !self.runs.goes_on(run);
        match self.page(wanted, after, Some(run), is_over).await {
            Listed::Page(page) => Ok((page.slices.into_iter().map(|slice| slice.name).collect(), page.next)),
            Listed::Stopped => Err(Stop::Process),
            Listed::Refused(said) => Err(Stop::Impossible(said)),
            Listed::Over => match self.state().refusals.to(run) {
                Some(refused) => Err(Stop::Impossible(refused)),
                None => Err(Stop::Over),
            },
        }
    }

    /// Whether the source still has every slice that comes in addition.
    async fn all_there(&self, run: Uuid, found: &Found) -> Result<(), Stop> {
        for (slice, _) in found.slices.iter().filter(|(slice, _)| slice.widened) {
            let (name, wanted, mut after) = (&slice.name, only(slice), None);
            loop {
                let (names, next) = self.page_for(run, &wanted, after.as_deref()).await?;
                if names.contains(name) {
                    break;
                }
                let Some(next) = next else {
                    return Err(Stop::Impossible(format!(
                        "files of these slices also hold {name}, which is not at the source any more and could not be taken again"
                    )));
                };
                after = Some(next);
            }
        }
        Ok(())
    }

    /// Waits until the pipeline has settled everything before `end`.
    async fn delivered(&self, run: Uuid, pipeline: &str, end: Offset) -> Result<(), Stop> {
        loop {
            self.goes_on(run)?;
            let status = self.intake.shared.status().into_iter().find(|status| status.pipeline == pipeline);
            match status.filter(|status| status.incarnation == self.incarnation) {
                None => return Err(Stop::Impossible(format!("the pipeline {pipeline} is gone"))),
                Some(status) if status.delivered_to >= end => return Ok(()),
                Some(_) => self.sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Part of the second step: takes the slices that come in addition.
    pub(super) async fn take_widened(&self, run: Uuid) -> Result<(), Stop> {
        let mut behind: Option<String> = None;
        loop {
            let after = behind.clone();
            let slices = self.ledger(move |ledger| ledger.widened(run, after.as_deref(), SLICES));
            let slices = answered(slices.await)?;
            let Some(last) = slices.last().map(|slice| slice.name.clone()) else { return Ok(()) };
            for slice in &slices {
                let (name, wanted, mut after) = (&slice.name, only(slice), None);
                let is_over = |state: &State| state.refusals.to(run).is_some() || !self.runs.goes_on(run);
                loop {
                    let page = match self.page(&wanted, after.as_deref(), Some(run), is_over).await {
                        Listed::Page(page) => page,
                        Listed::Refused(said) => return Err(Stop::Impossible(said)),
                        Listed::Over => return Err(Stop::Over),
                        Listed::Stopped => return Err(Stop::Process),
                    };
                    let its: Vec<_> = page.slices.into_iter().filter(|slice| slice.name == *name).collect();
                    if self.admit(&its, Purpose::Run(run, Again::Replaced)).await.is_none() {
                        return Err(if self.stop.is_cancelled() { Stop::Process } else { Stop::Over });
                    }
                    match page.next.filter(|_| its.is_empty()) {
                        Some(next) => after = Some(next),
                        // What is gone meanwhile is missed at the end.
                        None => break,
                    }
                }
            }
            behind = Some(last);
        }
    }

    /// The third and the fourth step.
    pub(super) async fn replace(&self, run: Uuid, replacement: &Replacement) -> Result<(), Stop> {
        let lacks = self.ledger(move |ledger| ledger.lacks_of_replacement(run));
        if let Some(lacks) = answered(lacks.await)? {
            return Err(Stop::Impossible(lacks));
        }
        let end = self.intake.shared.journal.tail(&self.stream).map_or(Offset(0), |tail| tail.end);
        self.delivered(run, &replacement.pipeline, end).await?;
        let (_, destination, _) = self.replaceable(&replacement.pipeline).map_err(Stop::Impossible)?;
        if destination != replacement.destination {
            let said = format!("the pipeline writes to {destination} now");
            return Err(Stop::Impossible(said));
        }
        loop {
            match self.runs.replace(&self.intake.shared, run, replacement).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    self.goes_on(run)?;
                    return Err(Stop::Impossible(format!(
                        "the pipeline {} was removed meanwhile",
                        replacement.pipeline
                    )));
                }
                Err(error) => {
                    warn!(source = self.name, run = %run, %error, "what is replaced could not be marked; trying again");
                    self.sleep(Duration::from_secs(1)).await;
                    self.goes_on(run)?;
                }
            }
        }
    }

    /// The fifth step of all runs, as long as the process runs.
    pub(super) async fn remove_replaced(&self) {
        loop {
            let next = self.until(|_| self.runs.removing(&self.name).ok_or(None));
            let Some(run) = next.await else { return };
            let mut attempts = 0_u32;
            loop {
                match self.remove_files(run.id).await {
                    Ok(()) => {
                        self.end(run.id, None).await;
                        break;
                    }
                    Err(None) => break,
                    Err(Some(failure)) => {
                        attempts = attempts.saturating_add(1);
                        warn!(source = self.name, run = %run.id, error = %failure, "files that are replaced could not be removed; trying again");
                        self.runs.update(run.id, |run| {
                            run.attempts = run.attempts.saturating_add(1);
                            run.last_error = Some(failure.to_string());
                        });
                        self.sleep(pause_after(failure.kind, attempts, failure.retry_after)).await;
                    }
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Removes the files of a run's old batches, and nothing else; `Err(None)`
    /// if the process stops or the run is over.
    async fn remove_files(&self, run: Uuid) -> Result<(), Option<Failure>> {
        let refused = |said: String| Some(Failure::new(lakeward_model::FailureKind::Refused, said));
        let replacement = self.ledger(move |ledger| ledger.replacement(run)).await.ok_or(None)?;
        // Forgotten, since the pipeline was removed: its files stay.
        let Some(replacement) = replacement.map(Arc::new) else { return Ok(()) };
        let shared = &self.intake.shared;
        let Some(spec) = shared.spec(&replacement.pipeline) else {
            return Err(refused(format!(
                "the pipeline {} is gone; its old files stay",
                replacement.pipeline
            )));
        };
        let opened = (shared.connectors.destination)(&spec.destination).map_err(refused)?;
        let remove = match opened.remove {
            Some(remove) if opened.name == replacement.destination => remove,
            _ => {
                let said = format!("the pipeline does not write to {} any more", replacement.destination);
                return Err(refused(format!("{said}; its old files stay there")));
            }
        };
        let mut from = Offset(0);
        loop {
            let of = Arc::clone(&replacement);
            let batches = self.ledger(move |ledger| ledger.replaced_batches(run, &of, from, BATCHES));
            let batches = batches.await.ok_or(None)?;
            let Some(last) = batches.last() else { return Ok(()) };
            from = last.span.from.plus(1);
            let is_replaced = |batch: &&crate::ledger::BatchRecord| {
                batch.replaced_by == Some(run) && batch.destination == replacement.destination
            };
            let files = batches.iter().filter(is_replaced).flat_map(|batch| &batch.files);
            let paths: Vec<LakePath> = files.map(|file| file.path.clone()).collect();
            let mut removals =
                futures::stream::iter(paths.into_iter().map(|path| remove(path))).buffer_unordered(FILES);
            while let Some(removed) = removals.next().await {
                removed.map_err(Some)?;
                if self.stop.is_cancelled() || !self.runs.goes_on(run) {
                    return Err(None);
                }
            }
        }
    }

    /// Ends a run that cannot replace; whether the process goes on.
    pub(super) async fn gives_up(&self, run: Uuid, stop: Stop) -> bool {
        self.change(|state| state.disown(run));
        match stop {
            Stop::Process => return false,
            Stop::Over => {}
            Stop::Impossible(said) => {
                let message = format!("{said}. Nothing was removed");
                let error = RunError { kind: RunErrorKind::Data, message };
                self.end(run, Some(error)).await;
            }
        }
        true
    }
}

/// The slice, and what has a name that begins like its. Its date lets a source
/// find it that is older than what the source offers by itself.
fn only(slice: &OldSlice) -> Wanted {
    Wanted { prefix: slice.name.clone(), from: slice.date, ..Wanted::default() }
}
