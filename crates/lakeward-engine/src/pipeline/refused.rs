//! A batch with rows that the destination will never take: built anew without
//! their records, which go to quarantine.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakeward_columnar::build::Refused;
use lakeward_model::UnfitRow;
use tracing::warn;

use super::{Halt, Pipeline, Prepared, Standing};
use crate::plan::Plan;

impl Pipeline {
    /// The batch without the records of these rows. The plan says so durably
    /// before anything of it is delivered: it is the same batch after a crash.
    /// `None` once the pipeline is to stop.
    pub(super) async fn without(
        self: Arc<Self>,
        prepared: Prepared,
        rows: &[UnfitRow],
    ) -> Result<Option<Prepared>, Halt> {
        let Prepared { plan, before, origins, batch, destination, .. } = prepared;
        drop((batch, destination));
        // The first reason is the one that is told.
        let mut refused: BTreeMap<_, _> =
            plan.refused.into_iter().map(|it| (it.offset, it.message)).collect();
        let known = refused.len();
        for row in rows {
            let record = origins.of(row.file, row.row).expect("a destination refuses rows that it was given");
            refused.entry(record).or_insert_with(|| row.message.clone());
        }
        assert!(refused.len() > known, "rows of records that are left out do not come back");
        warn!(pipeline = self.spec.name, batch = %plan.batch, records = refused.len() - known, "the destination will never take these records; they go to quarantine");
        let refused = refused.into_iter().map(|(offset, message)| Refused { offset, message }).collect();
        let plan = Plan { refused, ..plan };
        let (ledger, name, amended) = (Arc::clone(&self.ledger), self.spec.name.clone(), plan.clone());
        tokio::task::spawn_blocking(move || ledger.amend(&name, &amended)).await??;
        // The batch before is committed: its keys are among all others now.
        self.build_patiently(plan, Standing { in_flight: None, ..before }).await
    }
}
