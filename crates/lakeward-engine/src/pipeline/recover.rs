//! What an earlier process left.

use std::sync::Arc;

use lakeward_model::BatchId;
use tracing::{info, warn};

use super::{Halt, Pipeline, Standing};
use crate::dedup::{DedupState, FILTER_BYTES, KeyStore};
use crate::lambda::Replies;
use crate::plan::Plan;

impl Pipeline {
    /// The unfinished plan of an earlier process, and where to go on. Opens the
    /// dedup keys.
    pub(super) async fn recover(self: Arc<Self>) -> Result<(Option<Plan>, Standing), Halt> {
        tokio::task::spawn_blocking(move || {
            let name = &self.spec.name;
            let plan = self.ledger.unfinished(name)?;
            if let Some(plan) = &plan {
                info!(pipeline = name, batch = %plan.batch, span = %plan.span, "finishing the batch that was begun before the restart");
            }
            let begun: Vec<BatchId> = plan.iter().map(|plan| plan.batch).collect();
            if let Err(error) = Replies::remove_others(&self.folder.lambda(), &begun) {
                warn!(pipeline = name, %error, "replies of a function that nobody needs any more stay on the disk");
            }
            self.open_keys(plan.as_ref())?;
            let schemas = self.ledger.schemas(name)?;
            let progress = self.progress.borrow();
            let (offset, replay) = (progress.delivered_to, progress.replays.settled);
            Ok((plan, Standing { offset, replay, schemas, in_flight: None }))
        })
        .await?
    }

    /// Opens the dedup keys if the pipeline has any now, or had when its
    /// unfinished batch was planned; else forgets what there were.
    fn open_keys(&self, unfinished: Option<&Plan>) -> Result<(), Halt> {
        let (name, folder) = (&self.spec.name, self.folder.dedup());
        let known = self.ledger.dedup(name)?;
        let is_asked =
            self.spec.shape.dedup.is_some() || unfinished.is_some_and(|plan| plan.shape.dedup.is_some());
        if !is_asked {
            if known.is_some() {
                info!(pipeline = name, "the pipeline has no dedup any more; its keys are forgotten");
                self.ledger.set_dedup(name, None)?;
                // Files that no ledger names: the next opening removes the rest.
                let _ = std::fs::remove_dir_all(&folder);
            }
            return Ok(());
        }
        // Only a plan asks for them: registering made those of the settings.
        let state = match known {
            Some(state) => state,
            None => {
                let state = DedupState::fresh();
                self.ledger.set_dedup(name, Some(&state))?;
                state
            }
        };
        let keys = KeyStore::open(&folder, &state, FILTER_BYTES)?;
        self.keys.set(keys).expect("a task opens its keys once");
        Ok(())
    }
}
