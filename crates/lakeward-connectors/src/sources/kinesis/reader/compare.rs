//! What a listing says of the shards that we know.

use tracing::info;

use super::{Position, Reader, Reading, ShardId, Start};

/// A shard that was missing in so many listings in a row is gone.
const ABSENT_MAX: u32 = 3;

impl Reader {
    /// What a new listing says about our positions, and who is to be read.
    pub(super) fn compare(&mut self) {
        let positions: Vec<_> = self.progress.shards.clone().into_iter().collect();
        for (shard, position) in positions {
            if self.listing.get(&shard).is_none() {
                self.gone(&shard, &position);
                continue;
            }
            self.absent.remove(&shard);
            if self.leases.is_none() && self.is_another(&shard, &position) {
                self.made_anew(shard, &position);
            }
        }
        if self.leases.is_some() {
            self.find_others();
            self.end_forgotten();
            return;
        }
        for (shard, _) in self.listing.iter() {
            let position =
                self.progress.shards.get(shard).cloned().unwrap_or(Position::At(self.progress.start));
            if position != Position::Finished && !self.reading.contains_key(shard) {
                info!(%shard, from = ?position, "reading a shard");
                self.reading.insert(ShardId::clone(shard), Reading::new(position));
            }
        }
    }

    /// Whether the shard cannot be the one that was read up to `position`. That
    /// one which was read to its end is open is said by a list that is older
    /// than its end, too; so it must be said several times.
    fn is_another(&mut self, shard: &ShardId, position: &Position) -> bool {
        let Some(listed) = self.listing.get(shard) else { return false };
        if *position != Position::Finished {
            let before = position.sequence().zip(listed.first.as_ref());
            return before.is_some_and(|(position, first)| position < first);
        }
        if listed.closed || !self.listing.children(shard).is_empty() {
            self.another.remove(shard);
            return false;
        }
        let times = self.another.entry(ShardId::clone(shard)).or_default();
        *times = times.saturating_add(1);
        *times >= ABSENT_MAX
    }

    /// With leases: the others have the same rows, so a stream that was made
    /// anew is left to a person, who is told.
    fn find_others(&mut self) {
        let listed: Vec<ShardId> = self.listing.iter().map(|(shard, _)| ShardId::clone(shard)).collect();
        let Some(leases) = &self.leases else { return };
        let known: Vec<(ShardId, Position)> = listed
            .into_iter()
            .filter_map(|shard| leases.checkpoint(&shard).map(|position| (shard, position)))
            .collect();
        let others: Vec<ShardId> = known
            .into_iter()
            .filter(|(shard, position)| self.is_another(shard, position))
            .map(|(shard, _)| shard)
            .collect();
        if let Some(first) = others.first() {
            self.trouble(format!(
                "the stream was made anew: {} of its shards, such as {first}, begin behind the checkpoints of their leases and are not read; stop all workers and delete the lease table",
                others.len()
            ));
        }
    }

    /// With leases: a shard that outlived its retention before it was read to
    /// its end is at its end, or its children would wait for ever. Kinesis must
    /// have said twice over that it is gone: to a read and in several listings.
    fn end_forgotten(&mut self) {
        let mut forgotten = Vec::new();
        for (shard, reading) in &mut self.reading {
            let is_gone = reading.missing && self.listing.get(shard).is_none();
            reading.absent = if is_gone { reading.absent + 1 } else { 0 };
            if reading.absent >= ABSENT_MAX && !reading.ended {
                reading.ended = true;
                forgotten.push((ShardId::clone(shard), reading.position.clone()));
            }
        }
        for (shard, position) in forgotten {
            self.trouble(format!(
                "shard {shard} is no longer in the stream and was not read to its end; its lease is finished, and what it held behind the checkpoint ({position:?}) is lost"
            ));
        }
    }

    /// A shard of our cursor that is not listed. It is forgotten only when it
    /// was missing several times: one that comes back would be read again.
    fn gone(&mut self, shard: &ShardId, position: &Position) {
        let missed = self.absent.entry(ShardId::clone(shard)).or_default();
        *missed += 1;
        let known = self.leases.as_ref().map(|leases| leases.knows(shard));
        if *missed < ABSENT_MAX || known == Some(true) {
            return;
        }
        self.absent.remove(shard);
        self.progress.shards.remove(shard);
        self.reading.remove(shard);
        self.forgot = true;
        // Others may have read it to its end, if there are others.
        if *position != Position::Finished && known.is_none() {
            self.trouble(format!(
                "shard {shard} is no longer in the stream and was not read to its end; what it held behind our position ({position:?}) is lost"
            ));
        }
    }

    /// A shard that has the name of one that we read.
    fn made_anew(&mut self, shard: ShardId, position: &Position) {
        self.trouble(format!(
            "the stream was made anew: {shard} begins behind our position ({position:?}) and is read from its start"
        ));
        self.another.remove(&shard);
        let start = Position::At(Start::TrimHorizon);
        self.progress.shards.insert(ShardId::clone(&shard), start.clone());
        self.reading.insert(shard, Reading::new(start));
    }
}
