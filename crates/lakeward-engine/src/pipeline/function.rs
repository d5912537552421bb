//! What a pipeline's Lambda function says of a batch.

use std::sync::{Arc, PoisonError};

use lakeward_columnar::build::ShapeError;
use lakeward_columnar::process::{Outcome, ProcessingError};
use lakeward_columnar::shape::Lambda;
use lakeward_model::{Function, RecordBlock};

use super::{Halt, Pipeline};
use crate::lambda::{InvokeAllError, Listener, Replies, Settings, invoke_all, pieces};
use crate::plan::Plan;

impl Pipeline {
    /// What the plan's function says of its records, in order; nothing if it
    /// has none. Asks for what was not said yet, and takes as long as the
    /// function does.
    pub(super) async fn outcomes(
        self: &Arc<Self>,
        plan: &Plan,
        at_hand: Option<Vec<RecordBlock>>,
    ) -> Result<Box<dyn Iterator<Item = Outcome> + Send>, Halt> {
        let Some(function) = &plan.shape.processing.lambda else {
            return Ok(Box::new(std::iter::empty()));
        };
        let (folder, batch, planned_at) = (self.folder.lambda(), plan.batch, plan.planned_at);
        let mut replies =
            tokio::task::spawn_blocking(move || Replies::open(&folder, batch, planned_at)).await??;
        if !replies.is_whole() {
            let opened = self.function_of(plan, function)?;
            let settings = Settings::new(&self.spec.name, &self.connectors.arn, &self.spec.stream, function);
            let blocks = self.blocks(plan, at_hand);
            let before = self.state.borrow().clone();
            let state = self.state.clone();
            let listener: Listener = Arc::new(move |heard| {
                state.send_replace(heard.state().unwrap_or_else(|| before.clone()));
            });
            let arrived = pieces(&plan.shape.processing, blocks);
            invoke_all(opened, settings, arrived, &mut replies, listener).await.map_err(
                |error| match error {
                    InvokeAllError::Pieces(error) => Halt::Journal(error),
                    InvokeAllError::Replies(error) => Halt::Replies(error),
                },
            )?;
        }
        Ok(Box::new(replies.outcomes()))
    }

    /// The function, opened once as long as it stays the same: a process of it
    /// may be kept running.
    fn function_of(&self, plan: &Plan, function: &Lambda) -> Result<Arc<dyn Function>, Halt> {
        let mut opened = self.function.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, opened)) = &*opened
            && known == function
        {
            return Ok(Arc::clone(opened));
        }
        let new = (self.connectors.function)(&self.spec.name, function).map_err(|reason| {
            let reason = ShapeError::Processing(ProcessingError { field: "lambda", reason });
            Halt::Build { batch: plan.batch, reason }
        })?;
        *opened = Some((function.clone(), Arc::clone(&new)));
        Ok(new)
    }
}
