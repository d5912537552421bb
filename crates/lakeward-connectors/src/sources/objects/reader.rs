//! An open object: its bytes go through [`lakeward_unpack`], and each record
//! gets its lineage.

use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use lakeward_model::{Chunk, Failure, FailureKind, Keys, Lineage, Records, SliceId};
use lakeward_model::{SliceFailure, SliceReader};
use lakeward_unpack::{Block, Input, Options, Place, UnpackError, Unpacking};

use super::folder::{self, Folder};
use super::ranges::Met;
use super::threads::Threads;

/// The most bytes of records in a chunk.
const CHUNK_BYTES_MAX: usize = 2 << 20;
const CHUNK_BYTES_MIN: usize = 16 << 10;
/// What the lineage of one chunk may take if its records are as short as they
/// can be.
const LINEAGE_BYTES_MAX: usize = 16 << 20;
/// The longest name of a file in a lineage: an object's key and a member's name.
const FILE_BYTES_MAX: usize = 2_048;

/// An open object, or the rest of one.
#[derive(Debug)]
pub(super) struct ObjectReader {
    state: State,
    place: Where,
}

/// Where an object's records are unpacked.
#[derive(Debug)]
pub(super) enum Where {
    /// By whoever asks: it is small and in memory, so that no step takes long.
    Here,
    /// On one of these.
    Threads(Arc<Threads>),
}

#[derive(Debug)]
enum State {
    Open(Box<Work>),
    Ended,
    Failed,
}

/// What goes to the blocking thread and back.
pub(super) struct Work {
    pub(super) source: Opened,
    unpacking: Option<Unpacking>,
    options: Arc<Options>,
    resume: Option<Place>,
    about: About,
    chunk_bytes: usize,
}

/// Where the bytes come from.
pub(super) struct Opened {
    pub(super) input: Option<Input>,
    /// What went wrong below the reader.
    pub(super) met: Met,
    /// A file that must not have changed when its end is reached.
    pub(super) file: Option<(Folder, File)>,
}

/// What is said of every record.
pub(super) struct About {
    pub(super) id: SliceId,
    pub(super) name: String,
    pub(super) version: String,
    /// For people: `s3://bucket/key`.
    pub(super) address: String,
    fields: String,
}

impl About {
    pub(super) fn new(id: SliceId, slice: &lakeward_model::Slice, address: String) -> Self {
        Self { id, name: slice.name.clone(), version: slice.version.clone(), address, fields: slice.fields() }
    }
}

impl ObjectReader {
    pub(super) fn new(
        source: Opened,
        options: Arc<Options>,
        resume: Option<Place>,
        about: About,
        place: Where,
    ) -> Self {
        let chunk_bytes = chunk_bytes(&about, about.name.len());
        let work = Work { source, unpacking: None, options, resume, about, chunk_bytes };
        Self { state: State::Open(Box::new(work)), place }
    }
}

#[async_trait::async_trait]
impl SliceReader for ObjectReader {
    async fn next(&mut self) -> Result<Option<Chunk>, SliceFailure> {
        let mut work = match std::mem::replace(&mut self.state, State::Failed) {
            State::Open(work) => work,
            State::Ended => {
                self.state = State::Ended;
                return Ok(None);
            }
            State::Failed => return Err(unknown(String::from("the object is opened anew"))),
        };
        let step = move || {
            let step = work.step();
            (work, step)
        };
        let (work, step) = match &self.place {
            Where::Here => step(),
            Where::Threads(threads) => {
                let stepped = threads.run(step).await;
                stepped.ok_or_else(|| unknown(String::from("reading was stopped")))?
            }
        };
        let chunk = step?;
        self.state = if chunk.is_some() { State::Open(work) } else { State::Ended };
        Ok(chunk)
    }
}

impl Work {
    /// The next records.
    fn step(&mut self) -> Result<Option<Chunk>, SliceFailure> {
        if self.unpacking.is_none() {
            let Some(input) = self.source.input.take() else { return Ok(None) };
            let opened = Unpacking::open(input, &self.about.name, &self.options, self.resume.as_ref());
            self.unpacking = Some(opened.map_err(|error| self.failed(error))?);
        }
        let Some(unpacking) = &mut self.unpacking else { return Ok(None) };
        let block = unpacking.next_block(self.chunk_bytes);
        match block.map_err(|error| self.failed(error))? {
            Some(block) => self.chunk(block).map(Some),
            None => {
                if let Some((folder, file)) = &self.source.file {
                    folder.check(file, &self.about.name, &self.about.version)?;
                }
                Ok(None)
            }
        }
    }

    fn chunk(&mut self, block: Block) -> Result<Chunk, SliceFailure> {
        let Block { member, data, ends, lines, after } = block;
        let mut file = match member {
            Some(member) => format!("{}!{member}", self.about.name),
            None => self.about.name.clone(),
        };
        if file.len() > FILE_BYTES_MAX {
            file.truncate(file.floor_char_boundary(FILE_BYTES_MAX));
        }
        let (mut keys, mut key_ends) = (Vec::new(), Vec::with_capacity(lines.len()));
        for line in lines {
            let lineage = Lineage { slice: self.about.id, file: &file, line, fields: &self.about.fields };
            lineage.write(&mut keys);
            let end = u32::try_from(keys.len())
                .map_err(|_| SliceFailure::Broken(format!("{}: too many records", self.about.address)))?;
            key_ends.push(end);
        }
        self.chunk_bytes = chunk_bytes(&self.about, file.len());
        let keys = Keys { data: Bytes::from(keys), ends: key_ends };
        let records = Records { data: Bytes::from(data), ends, keys: Some(keys) };
        Ok(Chunk { records, resume: after.to_bytes(), trouble: None })
    }

    fn failed(&self, error: UnpackError) -> SliceFailure {
        let met = self.source.met.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(met) = met {
            return met;
        }
        let address = &self.about.address;
        let member = |member: Option<String>| member.map(|member| format!("!{member}")).unwrap_or_default();
        match error {
            UnpackError::Io(error) => read_failed(address, &error),
            UnpackError::Corrupt { member: inside, at, problem } => SliceFailure::Broken(format!(
                "{address}{}, {at}: {problem}: write the object anew, or leave it out by `glob`",
                member(inside)
            )),
            UnpackError::Limit { member: inside, limit, problem } => SliceFailure::Broken(format!(
                "{address}{}: {problem} (limit: {limit}): write the object anew in smaller pieces, or raise \
                 `max_record` if a record is too long",
                member(inside)
            )),
            UnpackError::NeedsFile(packing) => SliceFailure::Broken(format!(
                "{address}: holds a {packing:?} file inside a compressed one, which cannot be read: write it \
                 without the outer compression"
            )),
        }
    }
}

fn read_failed(address: &str, error: &io::Error) -> SliceFailure {
    SliceFailure::Source(folder::failed(address, error))
}

fn unknown(problem: String) -> SliceFailure {
    SliceFailure::Source(Failure::new(FailureKind::Unknown, problem))
}

/// How many bytes of records go into a chunk, so that its lineage stays bounded
/// even if each record is one byte and a newline.
fn chunk_bytes(about: &About, file: usize) -> usize {
    let lineage = 40 + file.min(FILE_BYTES_MAX) + about.fields.len();
    (2 * LINEAGE_BYTES_MAX / lineage).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Work({})", self.about.address)
    }
}
