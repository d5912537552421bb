//! Finding and reading the central directory.

use memchr::memmem;

use super::{Archive, Member, Storage};
use crate::Limits;
use crate::bulk::{Bulk, Section};
use crate::error::Fault;
use crate::window::Window;

/// The end record without its comment.
const END: usize = 22;
/// The longest comment behind it.
const COMMENT: usize = 65_535;
const LOCATOR: u64 = 20;
const END64: u64 = 56;
const HEADER: usize = 46;
/// The largest directory: a million members with names of 200 bytes.
const DIRECTORY_MAX: u64 = 256 << 20;
/// A 32-bit field that stands in the ZIP64 extra field instead.
const ELSEWHERE: u64 = 0xffff_ffff;

/// Where the directory lies.
struct Directory {
    members: u64,
    at: u64,
    end: u64,
}

impl Archive {
    /// Opens the archive that these bytes are, all of them.
    pub(crate) fn of(bulk: Bulk, limits: &Limits) -> Result<Self, Fault> {
        let directory = find(&bulk)?;
        if directory.members > limits.members_max as u64 {
            let problem =
                format!("the zip has {} members, more than {}", directory.members, limits.members_max);
            return Err(Fault::Limit("members_max", problem));
        }
        if directory.end - directory.at > DIRECTORY_MAX {
            let problem = format!("the zip's directory is larger than {DIRECTORY_MAX} bytes");
            return Err(Fault::Limit("members_max", problem));
        }
        let section = Section { bulk: bulk.clone(), at: directory.at, end: directory.end };
        let mut window = Window::new(section);
        let mut archive = Self { bulk, members: Vec::new(), storage: Vec::new(), directory: directory.at };
        let mut packed = 0_u64;
        for index in 0..usize::try_from(directory.members).unwrap_or(usize::MAX) {
            let (member, storage) = entry(&mut window, index)?;
            packed = packed.saturating_add(member.packed);
            if member.name.ends_with('/') && member.unpacked == 0 {
                continue;
            }
            archive.members.push(member);
            archive.storage.push(storage);
        }
        if !window.peek(1)?.is_empty() {
            return broken("the zip's directory has more members than it says");
        }
        if packed > directory.at {
            return broken("the zip's members overlap");
        }
        Ok(archive)
    }
}

/// Finds the directory by the record at the very end.
fn find(bulk: &Bulk) -> Result<Directory, Fault> {
    let length = bulk.length();
    let tail_length = length.min((END + COMMENT) as u64);
    let tail = bulk.exact(length - tail_length, usize::try_from(tail_length).unwrap_or(0))?;
    // Its comment reaches exactly to the end; so the record of a zip that is
    // stored in a zip that was cut off is not taken for it.
    let record = memmem::rfind_iter(&tail, b"PK\x05\x06")
        .find(|at| tail.len() - at >= END && at + END + usize::from(u16_at(&tail, at + 20)) == tail.len());
    let Some(record) = record else {
        return broken("the end of the zip's directory is missing: it is cut off");
    };
    let at = length - tail_length + record as u64;
    let end = &tail[record..];
    let mut directory = Directory { members: u64::from(u16_at(end, 10)), at: u32_at(end, 16), end: at };
    let mut size = u32_at(end, 12);
    let mut disks = [u64::from(u16_at(end, 4)), u64::from(u16_at(end, 6))];
    let mut here = u64::from(u16_at(end, 8));
    let wide = directory.members == 0xffff || size == ELSEWHERE || directory.at == ELSEWHERE;
    if wide && at >= LOCATOR + END64 {
        let locator = bulk.exact(at - LOCATOR, 20)?;
        if locator.starts_with(b"PK\x06\x07") {
            let record = u64_at(&locator, 8);
            let end = bulk.exact(record, 56)?;
            let length = u64_at(&end, 4).checked_add(12).and_then(|length| length.checked_add(record));
            if !end.starts_with(b"PK\x06\x06") || length != Some(at - LOCATOR) {
                return broken("the end of the zip's directory (ZIP64) is damaged");
            }
            disks = [u32_at(&end, 16), u32_at(&end, 20)];
            here = u64_at(&end, 24);
            directory = Directory { members: u64_at(&end, 32), at: u64_at(&end, 48), end: record };
            size = u64_at(&end, 40);
        }
    }
    if disks != [0, 0] || here != directory.members {
        return broken("the zip is one of several parts, which cannot be read");
    }
    if directory.at.checked_add(size) != Some(directory.end) {
        return broken("the zip's directory does not lie where it says: bytes are missing or were added");
    }
    Ok(directory)
}

/// Reads the next header of the directory.
fn entry(window: &mut Window, index: usize) -> Result<(Member, Storage), Fault> {
    let head = window.peek(HEADER)?;
    if head.len() < HEADER || !head.starts_with(b"PK\x01\x02") {
        return broken(&format!("member {index} of the zip's directory is missing or damaged"));
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(head, at)));
    let header = window.peek(HEADER + name + extra + comment)?;
    if header.len() < HEADER + name + extra + comment {
        return broken(&format!("member {index} of the zip's directory is cut off"));
    }
    // 0 is the only disk that there is; 0xffff stands in the extra field.
    if !matches!(u16_at(header, 34), 0 | 0xffff) {
        return broken("the zip is one of several parts, which cannot be read");
    }
    let mut wide = [u32_at(header, 24), u32_at(header, 20), u32_at(header, 42)];
    widen(&mut wide, &header[HEADER + name..HEADER + name + extra]);
    let [unpacked, packed, at] = wide;
    let member = Member {
        index,
        name: String::from_utf8_lossy(&header[HEADER..HEADER + name]).into_owned(),
        crc32: u32::try_from(u32_at(header, 16)).unwrap_or(0),
        packed,
        unpacked,
    };
    let storage = Storage {
        header: at,
        method: u16_at(header, 10),
        encrypted: u16_at(header, 8) & 1 != 0,
        name: u16_at(header, 28),
    };
    window.skip((HEADER + name + extra + comment) as u64)?;
    Ok((member, storage))
}

/// Takes the fields that do not fit 32 bits from the extra field with the
/// number 1, where they stand in this order.
fn widen(fields: &mut [u64; 3], mut extra: &[u8]) {
    while extra.len() >= 4 {
        let (number, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(mut values) = extra.get(4..4 + length) else { return };
        if number == 1 {
            for field in fields.iter_mut().filter(|field| **field == ELSEWHERE) {
                if values.len() >= 8 {
                    *field = u64_at(values, 0);
                    values = &values[8..];
                }
            }
            return;
        }
        extra = &extra[4 + length..];
    }
}

fn broken<T>(problem: &str) -> Result<T, Fault> {
    Err(Fault::Broken(problem.to_string()))
}

/// The little-endian number here; the caller made sure that there is one.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16_at(bytes, at)) | u64::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}
