//! What a listing of the shards says about the positions that we have: shards
//! that are new, that are gone, or that only have the names of ones we read.

use tracing::info;

use super::super::cursor::{Position, ShardId, Start};
use super::{Reader, Reading};

/// A shard that was missing in so many listings in a row is gone.
const ABSENT_MAX: u32 = 3;

impl Reader {
    /// What a new listing says about our positions, and who is to be read.
    pub(super) fn compare(&mut self) {
        let positions: Vec<_> = self.progress.shards.clone().into_iter().collect();
        for (shard, position) in &positions {
            if self.listing.get(shard).is_none() {
                self.gone(shard, position);
            }
        }
        if self.leases.is_some() {
            self.end_those_gone();
            return;
        }
        let mut others = Vec::new();
        for (shard, position) in &positions {
            match self.listing.get(shard) {
                // Read to its end, and open: not the shard that was read.
                Some(listed) if *position == Position::Finished && !listed.closed => {
                    let missed = self.missed(shard);
                    if missed >= ABSENT_MAX {
                        others.push(ShardId::clone(shard));
                    }
                }
                Some(listed) => {
                    self.absent.remove(shard);
                    let begin = position.sequence().zip(listed.first.as_ref());
                    if begin.is_some_and(|(position, first)| position < first) {
                        others.push(ShardId::clone(shard));
                    }
                }
                None => {}
            }
        }
        if !others.is_empty() {
            self.made_anew(&others);
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

    /// Counts a listing that does not fit what we know of the shard. One is not
    /// enough to act on: what is forgotten is read again.
    fn missed(&mut self, shard: &ShardId) -> u32 {
        let missed = self.absent.entry(ShardId::clone(shard)).or_default();
        *missed = missed.saturating_add(1);
        *missed
    }

    /// A shard of our cursor that is not listed.
    fn gone(&mut self, shard: &ShardId, position: &Position) {
        let known = self.leases.as_ref().map(|leases| leases.knows(shard));
        if known == Some(true) || self.missed(shard) < ABSENT_MAX {
            return;
        }
        self.absent.remove(shard);
        self.progress.shards.remove(shard);
        self.reading.remove(shard);
        self.forgot = true;
        // Others may have read it to its end, if there are others.
        if *position != Position::Finished && known.is_none() {
            self.lost(shard, position);
        }
    }

    /// With leases: shards that we hold and that are not listed are at their
    /// end.
    fn end_those_gone(&mut self) {
        let is_gone = |shard: &&ShardId| self.listing.get(shard).is_none();
        let gone: Vec<ShardId> = self.reading.keys().filter(is_gone).cloned().collect();
        for shard in gone {
            if self.missed(&shard) < ABSENT_MAX {
                continue;
            }
            self.absent.remove(&shard);
            if let Some(reading) = self.reading.get_mut(&shard) {
                reading.ended = true;
                let position = reading.position.clone();
                self.lost(&shard, &position);
            }
        }
    }

    fn lost(&mut self, shard: &ShardId, position: &Position) {
        self.trouble(format!(
            "shard {shard} is no longer in the stream and was not read to its end; what it held behind our position ({position:?}) is lost"
        ));
    }

    /// Some shards have the names of ones that we read, but are others: so are
    /// all that we know to be finished. They are read from their start.
    fn made_anew(&mut self, others: &[ShardId]) {
        self.trouble(format!(
            "the stream was deleted and made anew, as {} shows; its shards are read from their start",
            others[0]
        ));
        let listing = &self.listing;
        self.progress.shards.retain(|shard, position| {
            let is_other = *position == Position::Finished || others.contains(shard);
            !is_other || listing.get(shard).is_none()
        });
        self.progress.start = Start::TrimHorizon;
        self.reading.retain(|shard, _| !others.contains(shard));
        self.absent.clear();
        self.forgot = true;
    }
}
