//! Building a planned batch.

use std::sync::{Arc, PoisonError};

use lakeward_columnar::build::{self, BuildError, Built, BuiltCounts, ShapeError};
use lakeward_columnar::dedup::Seen;
use lakeward_columnar::transform::Transform;
use lakeward_model::{Batch, Destination, RecordBlock};
use tracing::debug;

use super::blocks::Blocks;
use super::{Halt, Pipeline, Prepared, Standing};
use crate::ledger::Counts;
use crate::plan::Plan;

impl Pipeline {
    /// The destination that the batch was planned for.
    fn destination_of(&self, plan: &Plan) -> Result<Arc<dyn Destination>, Halt> {
        if plan.destination == self.destination.name {
            return Ok(Arc::clone(&self.destination.destination));
        }
        let elsewhere = || Halt::Destination {
            planned: plan.destination.clone(),
            configured: self.destination.name.clone(),
        };
        match &plan.reopen {
            Some(planned) if !self.configured => {
                (self.connectors.destination)(planned).map(|o| o.destination).map_err(|_| elsewhere())
            }
            _ => Err(elsewhere()),
        }
    }

    /// The plan's SQL, compiled.
    fn sql_of(&self, plan: &Plan) -> Result<Option<Arc<dyn Transform>>, Halt> {
        let Some(sql) = &plan.shape.sql else { return Ok(None) };
        let mut compiled = self.sql.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, transform)) = &*compiled
            && known == sql
        {
            return Ok(Some(Arc::clone(transform)));
        }
        let transform = (self.connectors.sql)(sql)
            .map_err(|error| Halt::Build { batch: plan.batch, reason: ShapeError::Sql(error) })?;
        *compiled = Some((sql.clone(), Arc::clone(&transform)));
        Ok(Some(transform))
    }

    /// The records of a plan that are not in the journal.
    async fn at_hand(self: &Arc<Self>, plan: &Plan) -> Result<Option<Vec<RecordBlock>>, Halt> {
        let Some(replay) = plan.replay else { return Ok(None) };
        let (ledger, name) = (Arc::clone(&self.ledger), self.spec.name.clone());
        let read = tokio::task::spawn_blocking(move || ledger.replay_records(&name, replay.number));
        Ok(Some(read.await??))
    }

    /// The records of a plan.
    pub(super) fn blocks(&self, plan: &Plan, at_hand: Option<Vec<RecordBlock>>) -> Blocks {
        let token = self.blocking.token();
        Blocks::new(&self.journal, &self.spec.stream, plan.span, at_hand, token)
    }

    /// Builds a planned batch on the pipeline's own thread.
    pub(super) async fn build(self: Arc<Self>, plan: Plan, standing: Standing) -> Result<Prepared, Halt> {
        let destination = self.destination_of(&plan)?;
        let at_hand = self.at_hand(&plan).await?;
        let mut outcomes = self.outcomes(&plan, at_hand.clone()).await?;
        let token = self.blocking.token();
        let pipeline = Arc::clone(&self);
        let build = move || {
            let _until_the_end = token;
            let sql = self.sql_of(&plan)?;
            let blocks = || self.blocks(&plan, at_hand.clone());
            let window = plan.shape.dedup.as_ref().map(|dedup| dedup.window);
            let keys = window.map(|window| {
                let keys = self.keys.get().expect("a pipeline with dedup opened its keys");
                (keys.session(plan.batch, window, standing.in_flight.as_ref()), keys.state().seed)
            });
            let input = build::Input {
                batch: plan.batch,
                stream: &self.spec.stream,
                pipeline: &self.spec.name,
                shape: &plan.shape,
                schemas: &standing.schemas,
                planned_at: plan.planned_at,
                expected_bytes: plan.source_bytes,
                sql: sql.as_deref(),
                seen: keys.as_ref().map(|(session, seed)| (session as &dyn Seen, *seed)),
                refused: &plan.refused,
            };
            let built = build::build(&input, blocks(), &mut outcomes, blocks);
            let Built { files, schemas, counts, by_slice, keys: fresh, columns, origins } =
                built.map_err(|error| match error {
                    BuildError::Read(error) => Halt::Journal(error),
                    BuildError::Seen(error) => Halt::Seen(error),
                    BuildError::Shape(reason) => Halt::Build { batch: plan.batch, reason },
                })?;
            debug!(pipeline = self.spec.name, batch = %plan.batch, span = %plan.span, files = files.len(), rows = counts.rows, "batch built");
            let before = standing.clone();
            let in_flight = keys.map(|(session, _)| session.write(&fresh)).transpose()?;
            let schemas_changed = schemas.is_some();
            let after = Standing {
                offset: if plan.replay.is_none() { plan.span.to } else { standing.offset },
                replay: standing.replay + u64::from(plan.replay.is_some()),
                schemas: schemas.unwrap_or(standing.schemas),
                in_flight,
            };
            let batch = Batch { id: plan.batch, span: plan.span, files, columns: columns.into() };
            let (counts, slices) = (of_built(counts), by_slice.into());
            Ok(Prepared { batch, counts, slices, before, after, schemas_changed, origins, destination, plan })
        };
        pipeline.builder.run(build).await
    }
}

/// What became of the records, before anything of them is delivered.
fn of_built(counts: BuiltCounts) -> Counts {
    Counts {
        delivered: counts.delivered,
        filtered: counts.filtered,
        duplicates: counts.duplicates,
        quarantined: counts.quarantined,
        rows: counts.rows,
        rescued: counts.rescued,
        files: 0,
        bytes: 0,
        source_bytes: counts.source_bytes,
    }
}
