//! The records of one hour, from an archive on the disk.
//!
//! A thread unpacks; a short queue is between it and the engine. It ends when
//! the hour does, or when nobody takes what it made.

use std::fmt;
use std::fs::File;

use bytes::Bytes;
use lakeward_model::{
    Chunk, Failure, FailureKind, Keys, Lineage, Records, SliceFailure, SliceId, SliceReader,
};
use lakeward_unpack::{Archive, Block, Format, Member, Options, Place, UnpackError, Unpacking};
use tokio::sync::mpsc;
use tokio::task;
use tracing::warn;

use super::check;
use super::failures::{self, Found};
use super::hours::Hour;
use super::members;
use super::place::Resume;
use super::spool::Held;

/// Bytes of a chunk, about: two are in the queue, one is made, one is taken.
const CHUNK: usize = 1 << 20;
const QUEUE: usize = 2;
/// A damaged hour is fetched so often.
const DAMAGED_MAX: u32 = 3;

/// What is to be read.
pub(super) struct Job {
    pub(super) hour: Hour,
    pub(super) id: SliceId,
    pub(super) resume: Option<Resume>,
    pub(super) held: Held,
}

/// An hour that is being read.
pub(super) struct HourReader {
    hour: Hour,
    chunks: mpsc::Receiver<Result<Option<Chunk>, SliceFailure>>,
}

impl fmt::Debug for HourReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HourReader({})", self.hour)
    }
}

impl HourReader {
    /// Starts the thread.
    pub(super) fn start(job: Job) -> Self {
        let (out, chunks) = mpsc::channel(QUEUE);
        let hour = job.hour;
        task::spawn_blocking(move || {
            let end = job.run(&out);
            let _ = out.blocking_send(end.map(|()| None));
        });
        Self { hour, chunks }
    }
}

#[async_trait::async_trait]
impl SliceReader for HourReader {
    async fn next(&mut self) -> Result<Option<Chunk>, SliceFailure> {
        // Only a thread that said so is at the end.
        self.chunks.recv().await.unwrap_or_else(|| {
            let message = format!("reading hour {} stopped", self.hour);
            Err(Failure::new(FailureKind::NotDone, message).into())
        })
    }
}

/// What was read of an hour.
enum Read {
    /// Everything, or until nobody took it; so many bytes of records.
    All(u64),
    /// The archive has no file of the hour.
    Nothing,
}

type Out = mpsc::Sender<Result<Option<Chunk>, SliceFailure>>;

impl Job {
    /// Sends all chunks. An end without an error is the hour's end, or that of
    /// the one who takes them.
    fn run(self, out: &Out) -> Result<(), SliceFailure> {
        match self.unpack(out) {
            Ok(Read::All(bytes)) => {
                if !out.is_closed() {
                    self.held.ended(self.hour, bytes);
                }
                Ok(())
            }
            Ok(Read::Nothing) if self.resume.is_some() => {
                self.held.of_no_use(self.hour);
                Err(SliceFailure::Broken(failures::vanished(self.hour)))
            }
            Ok(Read::Nothing) => {
                self.held.ended(self.hour, 0);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn unpack(&self, out: &Out) -> Result<Read, UnpackError> {
        let again = || self.held.file.try_clone().map_err(UnpackError::Io);
        let mine = self.members(again()?)?;
        let mut resume = self.resume.as_ref();
        let (mut trouble, mut bytes) = (None, 0_u64);
        if mine.is_empty() {
            return Ok(Read::Nothing);
        }
        if resume.is_some_and(|resume| !resume.fits(&mine)) {
            let text = failures::restarted(self.hour);
            warn!(hour = %self.hour, text);
            (resume, trouble) = (None, Some(text));
        }
        let numbers: Vec<usize> = mine.iter().map(|member| member.index).collect();
        let options = Options { format: Format::Ndjson, limits: check::limits(), ..Options::default() };
        let place = resume.map(|resume| &resume.place);
        let mut unpacking = Unpacking::open_members(again()?, &options, &numbers, place)?;
        let mut making = Making::new(self.id, &mine);
        while let Some(block) = unpacking.next_block(CHUNK)? {
            making.add(block);
            if making.bytes() >= CHUNK / 2 {
                let Some(chunk) = making.take(&mut trouble) else { continue };
                bytes += chunk.records.data.len() as u64;
                if out.blocking_send(Ok(Some(chunk))).is_err() {
                    return Ok(Read::All(bytes));
                }
            }
        }
        if let Some(chunk) = making.take(&mut trouble) {
            bytes += chunk.records.data.len() as u64;
            let _ = out.blocking_send(Ok(Some(chunk)));
        }
        Ok(Read::All(bytes))
    }

    fn members(&self, file: File) -> Result<Vec<Member>, UnpackError> {
        let archive = Archive::open(file, &check::limits())?;
        Ok(members::of_hour(self.hour, self.held.window, archive.members()))
    }

    fn failed(&self, error: &UnpackError) -> SliceFailure {
        match failures::unpacking(self.hour, error) {
            Found::Disk(failure) => failure.into(),
            Found::Never(why) => SliceFailure::Broken(why),
            Found::Damaged(why) => {
                // What came was as it was sent: it is the same again, or not.
                if self.held.damaged(self.hour) < DAMAGED_MAX {
                    let message = format!("{why}; it is fetched again");
                    return Failure::new(FailureKind::Unknown, message).into();
                }
                self.held.given_up(self.hour);
                SliceFailure::Broken(format!(
                    "{why}; it was fetched {DAMAGED_MAX} times. Pull this hour again later, and ask Amplitude \
                     if it stays so"
                ))
            }
        }
    }
}

/// A chunk that is being made of blocks.
struct Making<'a> {
    id: SliceId,
    members: &'a [Member],
    /// How many members were begun.
    begun: usize,
    data: Vec<u8>,
    ends: Vec<u32>,
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    after: Option<Place>,
}

impl<'a> Making<'a> {
    fn new(id: SliceId, members: &'a [Member]) -> Self {
        let (data, ends, keys, key_ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { id, members, begun: 0, data, ends, keys, key_ends, after: None }
    }

    fn bytes(&self) -> usize {
        self.data.len()
    }

    fn add(&mut self, block: Block) {
        let name = block.member.as_deref().unwrap_or_default();
        let is_it = |member: &Member| member.name == name;
        // Members come in their order; where reading goes on in the middle,
        // those before it were begun too.
        let from = self.begun.saturating_sub(1);
        if let Some(further) = self.members[from..].iter().position(is_it) {
            self.begun = from + further + 1;
        }
        let start = length(&self.data);
        if self.data.is_empty() {
            self.data = block.data;
        } else {
            self.data.extend_from_slice(&block.data);
        }
        self.ends.extend(block.ends.iter().map(|end| start + end));
        let file = members::file_of(name);
        for &line in &block.lines {
            Lineage { slice: self.id, file, line, fields: "" }.write(&mut self.keys);
            self.key_ends.push(length(&self.keys));
        }
        self.after = Some(block.after);
    }

    /// What was made so far; `None` if there is no record in it.
    fn take(&mut self, trouble: &mut Option<String>) -> Option<Chunk> {
        let place = self.after.take()?;
        if self.ends.is_empty() {
            return None;
        }
        let keys = Keys {
            data: Bytes::from(std::mem::take(&mut self.keys)),
            ends: std::mem::take(&mut self.key_ends),
        };
        let records = Records {
            data: Bytes::from(std::mem::take(&mut self.data)),
            ends: std::mem::take(&mut self.ends),
            keys: Some(keys),
        };
        let resume = Resume::behind(&self.members[..self.begun], place).write();
        Some(Chunk { records, resume, trouble: trouble.take() })
    }
}

fn length(data: &[u8]) -> u32 {
    u32::try_from(data.len()).expect("a chunk is far below 4 GiB")
}
