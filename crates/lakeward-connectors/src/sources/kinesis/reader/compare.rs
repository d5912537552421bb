//! What a listing says of the shards that we know.

use tracing::info;

use super::{ABSENT_MAX, Position, Reader, Reading, ShardId, Start};

impl Reader {
    /// What a new listing says about our positions, and who is to be read.
    pub(super) fn compare(&mut self) {
        let positions: Vec<_> = self.progress.shards.clone().into_iter().collect();
        for (shard, position) in positions {
            match self.listing.get(&shard) {
                None => self.gone(&shard, &position),
                Some(listed) => {
                    let before = position.sequence().zip(listed.first.as_ref());
                    let is_another = before.is_some_and(|(position, first)| position < first);
                    self.absent.remove(&shard);
                    if is_another && self.leases.is_none() {
                        self.made_anew(shard, &position);
                    }
                }
            }
        }
        if self.leases.is_some() {
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
        let start = Position::At(Start::TrimHorizon);
        self.progress.shards.insert(ShardId::clone(&shard), start.clone());
        self.reading.insert(shard, Reading::new(start));
    }
}
