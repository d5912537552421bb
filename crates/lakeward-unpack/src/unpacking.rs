//! Unwraps a file, layer by layer, and hands out its records.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;

use crate::block::Filling;
use crate::bulk::Bulk;
use crate::error::Fault;
use crate::formats::{Documents, Lines, Records, Rows, Table, looks_like_documents};
use crate::gzip::Gunzip;
use crate::meter::{Meter, Source, Unpacked};
use crate::packing::{is_named_csv, is_named_packed, not_text};
use crate::window::Window;
use crate::{Archive, Block, Format, Input, Options, Packing, Place, UnpackError, needs_file, packing};

/// How many layers may be around the records.
const DEPTH_MAX: usize = 4;
/// How much of a text is looked at to tell its format.
const HEAD: usize = 64 << 10;
/// The largest zip or Parquet file within another layer: it is held in memory.
const INNER_MAX: usize = 64 << 20;
/// The largest window of a zstd frame, as a power of 2: 128 MiB, what the tool
/// `zstd` reads without being told more. Level 19 writes 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// An open file.
pub struct Unpacking {
    options: Options,
    meter: Arc<Meter>,
    /// The zips that are open, outermost first.
    archives: Vec<Open>,
    /// What is read at the moment.
    leaf: Option<Leaf>,
    /// What went wrong behind the last block.
    fault: Option<Fault>,
    /// Where reading starts, until that place is reached.
    resume: Option<Place>,
    /// The only thing to do after an error is to open the file again.
    ended: bool,
}

/// A zip and how far it is read.
struct Open {
    archive: Archive,
    /// The members to read, as positions in the archive's list.
    order: Vec<usize>,
    /// How many of them were opened.
    opened: usize,
    /// How many layers are around its members.
    depth: usize,
    /// Its name in an outer zip and a `/`, or nothing.
    prefix: String,
}

/// Bytes of a format.
struct Leaf {
    records: Kind,
    member: Option<String>,
    /// The places of the members around it.
    members: Vec<u32>,
    /// Whether nothing is around it.
    plain: bool,
    /// Records that were handed out, those before the resumed place too.
    read: u64,
}

enum Kind {
    Lines(Lines),
    Documents(Documents),
    Rows(Box<Rows>),
    Table(Box<Table>),
}

/// What layers lead to some bytes.
struct Way {
    /// The name of the file or member, which says if it is CSV.
    name: String,
    member: Option<String>,
    members: Vec<u32>,
    depth: usize,
}

impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacking")
            .field("options", &self.options)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

impl Unpacking {
    /// Opens a file under a name, which only tells CSV. With a place to go on
    /// from, `input` is the same file again, as a stream from
    /// [`Place::byte`] on if that is known. Of a zip all members are read, in
    /// the order of its directory, but for folders and what macOS adds
    /// (`__MACOSX/`, `.DS_Store`).
    ///
    /// # Errors
    /// See [`UnpackError`].
    pub fn open(
        input: Input,
        name: &str,
        options: &Options,
        resume: Option<&Place>,
    ) -> Result<Self, UnpackError> {
        Self::start(options, resume, |unpacking| match input {
            Input::Stream(reader) => {
                let window = Window::new(Source { reader, meter: Arc::clone(&unpacking.meter) });
                unpacking.stream(window, name)
            }
            Input::File(file) => unpacking.file(file, name),
        })
    }

    /// Opens a zip of which only these members are read, given by their
    /// [`index`](crate::Member::index), in this order. A place to go on from
    /// counts them by their position in this list.
    ///
    /// # Errors
    /// See [`UnpackError`]; an index that is no member's is `Corrupt`.
    pub fn open_members(
        file: File,
        options: &Options,
        members: &[usize],
        resume: Option<&Place>,
    ) -> Result<Self, UnpackError> {
        Self::start(options, resume, |unpacking| {
            let archive = Archive::of(Bulk::file(file, &unpacking.meter)?, &options.limits)?;
            let order = members.iter().map(|index| {
                let missing = || Fault::Broken(format!("the zip has no member {index}"));
                archive.position(*index).ok_or_else(missing)
            });
            let order = order.collect::<Result<_, _>>()?;
            unpacking.enter(Open { archive, order, opened: 0, depth: 1, prefix: String::new() })
        })
    }

    /// The next records: whole ones, of one member, together `bytes_max` bytes
    /// or less (1 GiB at most), or a single one that is larger; `None` at the
    /// end, when all was read and found whole.
    ///
    /// # Errors
    /// See [`UnpackError`]. What was read before is handed out first; nothing
    /// comes behind it.
    pub fn next_block(&mut self, bytes_max: usize) -> Result<Option<Block>, UnpackError> {
        loop {
            if let Some(fault) = self.fault.take() {
                return Err(self.fail(fault));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(leaf) = &mut self.leaf else {
                if let Err(fault) = self.next_member() {
                    return Err(self.fail(fault));
                }
                continue;
            };
            let mut filling = Filling::new(bytes_max, leaf.expected());
            let more = leaf.fill(&mut filling);
            let block = (!filling.ends.is_empty()).then(|| leaf.block(filling));
            match more {
                Ok(true) => {}
                Ok(false) if block.is_some() => {}
                Ok(false) => self.leaf = None,
                Err(fault) => self.fault = Some(fault),
            }
            if block.is_some() {
                return Ok(block);
            }
        }
    }

    fn start(
        options: &Options,
        resume: Option<&Place>,
        open: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<Self, UnpackError> {
        let mut unpacking = Self {
            options: options.clone(),
            meter: Meter::new(&options.limits),
            archives: Vec::new(),
            leaf: None,
            fault: None,
            resume: resume.cloned(),
            ended: false,
        };
        match open(&mut unpacking) {
            Ok(()) => Ok(unpacking),
            Err(fault) => Err(unpacking.fail(fault)),
        }
    }

    /// Says where the fault was found.
    fn fail(&mut self, fault: Fault) -> UnpackError {
        self.ended = true;
        let (member, at) = match (&self.leaf, self.archives.last()) {
            (Some(leaf), _) => (leaf.member.clone(), leaf.at()),
            (None, Some(open)) => (open.member(), "byte 0".to_string()),
            (None, None) => (None, "byte 0".to_string()),
        };
        fault.found(&self.meter, member, at)
    }

    /// Where a plain file goes on.
    fn plain_resume(&mut self) -> Option<(u64, u64)> {
        let place = self.resume.take_if(|place| place.plain)?;
        place.line.map(|line| (place.read, line))
    }

    fn stream(&mut self, mut window: Window, name: &str) -> Result<(), Fault> {
        if let Some((byte, line)) = self.plain_resume() {
            return self.go_on(window, byte, line);
        }
        let packing = packing(window.peek(4)?);
        if needs_file(packing) && self.is_unwrapped(packing) {
            return Err(Fault::NeedsFile(packing));
        }
        self.descend(window, Way { name: name.to_string(), member: None, members: Vec::new(), depth: 0 })
    }

    fn file(&mut self, mut file: File, name: &str) -> Result<(), Fault> {
        let plain = self.plain_resume();
        let start = plain.map_or(0, |(byte, _)| byte);
        let length = file.metadata().inspect_err(|_| self.meter.fail())?.len();
        if start > length {
            return Err(Fault::Broken(format!(
                "it has {length} bytes, and {start} of them were read before"
            )));
        }
        file.seek(SeekFrom::Start(start)).inspect_err(|_| self.meter.fail())?;
        let meter = Arc::clone(&self.meter);
        let copy = file.try_clone().inspect_err(|_| self.meter.fail())?;
        let mut window = Window::new(Source { reader: copy, meter });
        if let Some((byte, line)) = plain {
            return self.go_on(window, byte, line);
        }
        let way = Way { name: name.to_string(), member: None, members: Vec::new(), depth: 0 };
        let packing = packing(window.peek(4)?);
        if needs_file(packing) && self.is_unwrapped(packing) {
            let bulk = Bulk::file(file, &self.meter)?;
            return self.bulk(bulk, packing, way);
        }
        self.descend(window, way)
    }

    /// Whether bytes of this packing are unwrapped: Parquet is not if something
    /// else was asked for.
    fn is_unwrapped(&self, packing: Packing) -> bool {
        packing != Packing::Parquet || matches!(self.options.format, Format::Auto | Format::Parquet)
    }

    /// Reads a plain file from the middle on.
    fn go_on(&mut self, window: Window, byte: u64, line: u64) -> Result<(), Fault> {
        let lines = Lines::new(window, byte, line, self.options.limits.record());
        let (member, members) = (None, Vec::new());
        self.leaf = Some(Leaf { records: Kind::Lines(lines), member, members, plain: true, read: 0 });
        Ok(())
    }

    /// Unwraps what is around some bytes, until their format or a zip is reached.
    fn descend(&mut self, mut window: Window, mut way: Way) -> Result<(), Fault> {
        let outermost = way.depth;
        loop {
            let packing = packing(window.peek(512)?);
            if packing == Packing::Plain || !self.is_unwrapped(packing) {
                break;
            }
            way.depth += 1;
            if way.depth > DEPTH_MAX {
                return Err(Fault::Broken(format!("it is packed more than {DEPTH_MAX} times")));
            }
            let meter = Arc::clone(&self.meter);
            window = match packing {
                Packing::Gzip => Window::new(Unpacked { reader: Gunzip::new(window), meter }),
                Packing::Zstd => Window::new(Unpacked { reader: zstd_decoder(window)?, meter }),
                _ => {
                    way.depth -= 1;
                    return self.bulk(in_memory(window, packing)?, packing, way);
                }
            };
        }
        let head = window.peek(512)?;
        if let Some(problem) = not_text(head) {
            return Err(Fault::Broken(problem.to_string()));
        }
        if head.is_empty() && way.depth == outermost && is_named_packed(&way.name) {
            return Err(Fault::Broken(format!("`{}` is empty, which no file of that kind is", way.name)));
        }
        self.text(window, way)
    }

    /// Opens a zip or a Parquet file.
    fn bulk(&mut self, bulk: Bulk, packing: Packing, way: Way) -> Result<(), Fault> {
        let depth = way.depth + 1;
        if depth > DEPTH_MAX {
            return Err(Fault::Broken(format!("it is packed more than {DEPTH_MAX} times")));
        }
        if packing == Packing::Zip {
            let archive = Archive::of(bulk, &self.options.limits)?;
            let members = archive.members().iter().enumerate();
            let order = members
                .filter(|(_, member)| !is_of_macos(&member.name))
                .map(|(position, _)| position)
                .collect();
            let prefix = way.member.map(|name| format!("{name}/")).unwrap_or_default();
            return self.enter(Open { archive, order, opened: 0, depth, prefix });
        }
        let read = self.reached(&way.members)?.map_or(0, |place| place.read);
        let table = Table::open(bulk, read, self.options.limits.record(), &self.meter)?;
        self.leaf = Some(Leaf {
            records: Kind::Table(Box::new(table)),
            member: way.member,
            members: way.members,
            plain: false,
            read,
        });
        Ok(())
    }

    /// Opens bytes that nothing is around any more.
    fn text(&mut self, mut window: Window, way: Way) -> Result<(), Fault> {
        let resume = self.reached(&way.members)?;
        let record_bytes_max = self.options.limits.record();
        let bom: u64 = if window.peek(3)? == b"\xef\xbb\xbf" { 3 } else { 0 };
        let format = match self.options.format {
            Format::Auto if is_named_csv(&way.name) => Format::Csv,
            Format::Auto => {
                let head = window.peek(HEAD)?;
                let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
                if looks_like_documents(head) { Format::Json } else { Format::Ndjson }
            }
            chosen => chosen,
        };
        let line = resume.as_ref().and_then(|place| place.line);
        let passed = match (&resume, line) {
            (Some(place), Some(_)) => place.read,
            _ => bom,
        };
        let behind = || Fault::Broken("the place to go on from lies behind its end".into());
        if !window.skip(passed)? || line.is_some() && format != Format::Ndjson {
            return Err(behind());
        }
        let mut records = match format {
            Format::Ndjson | Format::Auto => {
                Kind::Lines(Lines::new(window, passed, line.unwrap_or(1), record_bytes_max))
            }
            Format::Json => Kind::Documents(Documents::new(window, record_bytes_max)),
            Format::Csv => Kind::Rows(Box::new(Rows::new(window, &self.options.csv, record_bytes_max))),
            Format::Parquet => return Err(Fault::Broken("it is no Parquet file".into())),
        };
        let read = resume.filter(|_| line.is_none()).map_or(0, |place| place.read);
        let skipped = match &mut records {
            Kind::Lines(lines) => lines.skip(read),
            Kind::Documents(documents) => documents.skip(read),
            Kind::Rows(rows) => rows.skip(read),
            Kind::Table(table) => table.skip(read),
        };
        if !skipped? {
            return Err(behind());
        }
        let plain = way.depth == 0;
        self.leaf = Some(Leaf { records, member: way.member, members: way.members, plain, read });
        Ok(())
    }

    /// The place to go on from, if it lies in what these members lead to.
    fn reached(&mut self, members: &[u32]) -> Result<Option<Place>, Fault> {
        match self.resume.take() {
            Some(place) if place.members != members => {
                Err(Fault::Broken("the place to go on from is not one of this file".into()))
            }
            place => Ok(place),
        }
    }

    /// Opens a zip at its first member or at the one to go on from.
    fn enter(&mut self, mut open: Open) -> Result<(), Fault> {
        if let Some(place) = &self.resume {
            let position = place.members.get(self.archives.len()).and_then(|at| usize::try_from(*at).ok());
            let Some(position) = position.filter(|at| *at < open.order.len()) else {
                return Err(Fault::Broken("the place to go on from is not one of this file".into()));
            };
            open.opened = position;
        }
        self.leaf = None;
        self.archives.push(open);
        Ok(())
    }

    /// Opens the next member; at the end of a zip leaves it.
    fn next_member(&mut self) -> Result<(), Fault> {
        let Some(open) = self.archives.last_mut() else {
            self.ended = true;
            return Ok(());
        };
        let Some(&position) = open.order.get(open.opened) else {
            self.archives.pop();
            return Ok(());
        };
        open.opened += 1;
        let (member, depth) = (open.member(), open.depth);
        let window = open.archive.read(position, &self.meter)?;
        // `opened` is one further than the member that is being read.
        let current = |open: &Open| u32::try_from(open.opened.saturating_sub(1)).unwrap_or(u32::MAX);
        let members = self.archives.iter().map(current).collect();
        let way = Way { name: member.clone().unwrap_or_default(), member, members, depth };
        self.descend(window, way)
    }
}

impl Open {
    /// The name of the member that was opened last.
    fn member(&self) -> Option<String> {
        let position = self.order.get(self.opened.checked_sub(1)?)?;
        let member = self.archive.members().get(*position)?;
        Some(format!("{}{}", self.prefix, member.name))
    }
}

impl Leaf {
    fn fill(&mut self, filling: &mut Filling) -> Result<bool, Fault> {
        match &mut self.records {
            Kind::Lines(lines) => filling.fill(lines),
            Kind::Documents(documents) => filling.fill(documents),
            Kind::Rows(rows) => filling.fill(rows.as_mut()),
            Kind::Table(table) => filling.fill(table.as_mut()),
        }
    }

    /// How many bytes a block is likely to get.
    fn expected(&self) -> usize {
        match &self.records {
            Kind::Lines(lines) => lines.expected(),
            _ => 0,
        }
    }

    fn block(&mut self, filling: Filling) -> Block {
        self.read += filling.ends.len() as u64;
        let (read, line) = match &self.records {
            Kind::Lines(lines) => {
                let (byte, line) = lines.place();
                (byte, Some(line))
            }
            _ => (self.read, None),
        };
        let plain = self.plain && line.is_some();
        let after = Place { members: self.members.clone(), read, line, plain };
        Block {
            member: self.member.clone(),
            data: filling.data,
            ends: filling.ends,
            lines: filling.lines,
            after,
        }
    }

    /// Where reading stands, for people.
    fn at(&self) -> String {
        match &self.records {
            Kind::Lines(lines) => format!("line {}", lines.place().1),
            _ => format!("record {}", self.read + 1),
        }
    }
}

/// What macOS puts into a zip beside what was to be zipped.
fn is_of_macos(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name == ".DS_Store" || name.ends_with("/.DS_Store")
}

/// Takes a file that has to be seeked in out of the layers around it.
fn in_memory(mut window: Window, packing: Packing) -> Result<Bulk, Fault> {
    if window.peek(INNER_MAX + 1)?.len() > INNER_MAX {
        let problem = format!(
            "there is a {packing:?} file of more than {INNER_MAX} bytes in it, packed once more; unpack it first"
        );
        return Err(Fault::Broken(problem));
    }
    Ok(Bulk::Memory(window.into_held().into()))
}

/// Reads zstd frames, one after another.
pub(crate) fn zstd_decoder(packed: Window) -> io::Result<zstd::Decoder<'static, Window>> {
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}
