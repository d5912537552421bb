//! An Export API that misbehaves as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Cursor, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub(super) const API_KEY: &str = "an-api-key";
pub(super) const SECRET_KEY: &str = "hush-hush";

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A status, headers (each with its line end) and a body.
    Status(u16, &'static str, &'static str),
    /// 200 and this body.
    Body(Vec<u8>),
    /// Half of the archive, as if that were all.
    Truncated,
    /// The archive with one byte changed, in the middle of a member.
    Flipped,
    /// Half of the archive, then the connection is closed.
    Cut,
    /// Half of the archive, then nothing.
    Stall,
    /// The archive in many small pieces.
    Dribble,
    /// No reply, ever.
    Hang,
}

/// A member: its name, and its lines.
pub(super) type Part = (String, Vec<String>);

#[derive(Debug, Default)]
pub(super) struct World {
    /// By hour, `2026-03-01T05`.
    pub(super) hours: BTreeMap<String, Vec<Part>>,
    /// The next first; `None` is a request that works.
    pub(super) faults: VecDeque<Option<Fault>>,
    /// What requests for more than so many hours are answered.
    pub(super) most: Option<(usize, Fault)>,
    /// What requests that include this hour are answered.
    pub(super) bad: BTreeMap<String, Fault>,
    /// `start` and `end` of every request.
    pub(super) asked: Vec<(String, String)>,
}

pub(super) struct Server {
    pub(super) address: String,
    world: Arc<Mutex<World>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { address, world, task }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    pub(super) fn asked(&self) -> Vec<(String, String)> {
        self.world().asked.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, world: Arc<Mutex<World>>) {
    let mut socket = BufReader::new(socket);
    let Some((start, end, authorized)) = read(&mut socket).await else { return };
    let (fault, archive) = {
        let mut world = world.lock().expect("not poisoned");
        let hours = hours(&start, &end);
        world.asked.push((start, end));
        let scripted = world.faults.pop_front().flatten();
        let size = world.most.clone().filter(|(most, _)| hours.len() > *most).map(|(_, fault)| fault);
        let bad = hours.iter().find_map(|hour| world.bad.get(hour).cloned());
        let refused = (!authorized).then_some(Fault::Status(403, "", "Invalid API Key"));
        (refused.or(scripted).or(size).or(bad), world.archive(&hours))
    };
    let nothing = Fault::Status(404, "", "Raw data files were not found.");
    let fault = if archive.is_empty() && fault.is_none() { Some(nothing) } else { fault };
    answer(&mut socket, fault, archive).await;
    let _ = socket.shutdown().await;
}

async fn answer(socket: &mut BufReader<TcpStream>, fault: Option<Fault>, mut archive: Vec<u8>) {
    let head = |status: u16, headers: &str, length: usize| {
        format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n")
    };
    let half = archive.len() / 2;
    let stalls = matches!(fault, Some(Fault::Stall));
    let (head, body) = match fault {
        None => (head(200, "", archive.len()), archive),
        Some(Fault::Status(status, headers, body)) => (head(status, headers, body.len()), body.into()),
        Some(Fault::Body(body)) => (head(200, "", body.len()), body),
        Some(Fault::Truncated) => (head(200, "", half), archive[..half].to_vec()),
        Some(Fault::Flipped) => {
            archive[90] ^= 0x40;
            (head(200, "", archive.len()), archive)
        }
        Some(Fault::Cut | Fault::Stall) => (head(200, "", archive.len()), archive[..half].to_vec()),
        Some(Fault::Dribble) => {
            let _ = socket.write_all(head(200, "", archive.len()).as_bytes()).await;
            for piece in archive.chunks(7) {
                let _ = socket.write_all(piece).await;
                let _ = socket.flush().await;
                tokio::task::yield_now().await;
            }
            return;
        }
        Some(Fault::Hang) => return std::future::pending().await,
    };
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(&body).await;
    if stalls {
        let _ = socket.flush().await;
        std::future::pending::<()>().await;
    }
}

/// `start` and `end` of a request, and whether it has the right keys.
async fn read(socket: &mut BufReader<TcpStream>) -> Option<(String, String, bool)> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let query = line.split(' ').nth(1)?.strip_prefix("/api/2/export?")?;
    let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).map(String::from);
    let (start, end) = (of("start=")?, of("end=")?);
    let keys = base64_simd::STANDARD.encode_to_string(format!("{API_KEY}:{SECRET_KEY}"));
    let mut authorized = false;
    loop {
        let mut header = String::new();
        socket.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        authorized |= name.eq_ignore_ascii_case("authorization") && value.trim() == format!("Basic {keys}");
    }
    Some((start, end, authorized))
}

/// The hours from `start` to `end`, both included.
fn hours(start: &str, end: &str) -> Vec<String> {
    let parse =
        |text: &str| jiff::civil::DateTime::strptime("%Y%m%dT%H%M", format!("{text}00")).expect("an hour");
    let (mut at, end) = (parse(start), parse(end));
    let mut hours = Vec::new();
    while at <= end {
        hours.push(at.strftime("%Y-%m-%dT%H").to_string());
        at += jiff::Span::new().hours(1);
    }
    hours
}

impl World {
    /// The archive of these hours; no bytes if they have no events.
    fn archive(&self, hours: &[String]) -> Vec<u8> {
        let parts: Vec<&Part> = hours.iter().filter_map(|hour| self.hours.get(hour)).flatten().collect();
        if parts.is_empty() { Vec::new() } else { archive(parts) }
    }
}

/// Members stored and deflated by turns, in no order, with a folder and a
/// marker.
pub(super) fn archive<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    let stored = options.compression_method(CompressionMethod::Stored);
    let mut parts: Vec<&Part> = parts.into_iter().collect();
    parts.reverse();
    for (number, (name, lines)) in parts.into_iter().enumerate() {
        let method = [CompressionMethod::Stored, CompressionMethod::Deflated][number % 2];
        zip.start_file(name.as_str(), options.compression_method(method)).expect("it writes");
        zip.write_all(&gzip(lines)).expect("it writes");
        if number == 0 {
            zip.add_directory("1/", stored).expect("it writes");
            zip.start_file("1/1_2026-03-01_0_complete", stored).expect("it writes");
        }
    }
    zip.finish().expect("it writes").into_inner()
}

pub(super) fn gzip(lines: &[String]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    for line in lines {
        writeln!(gzip, "{line}").expect("it writes");
    }
    gzip.finish().expect("it writes")
}
