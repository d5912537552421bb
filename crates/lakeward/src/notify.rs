//! Tells the service manager how the service is: systemd's protocol, a
//! datagram of `NAME=value` lines (sd_notify(3), "Notification Protocol").

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// Where to tell it. Does nothing unless a manager started us and listens.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// What the manager left in the environment: `NOTIFY_SOCKET`, and
    /// `WATCHDOG_USEC` if it ends a process that says nothing for that long
    /// (sd_watchdog_enabled(3)).
    pub(crate) fn from_environment() -> Self {
        Self::new(&|name| std::env::var_os(name), std::process::id())
    }

    fn new(environment: &impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(address) = environment("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let socket = open(address.as_bytes())
            .inspect_err(
                |error| warn!(%error, "NOTIFY_SOCKET cannot be used; the service manager hears nothing"),
            )
            .ok();
        let text = |name: &str| environment(name).and_then(|value| value.into_string().ok());
        // A watchdog that names another process is none of ours.
        let ours = text("WATCHDOG_PID").is_none_or(|of| of == pid.to_string());
        let every = text("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|micros| *micros > 0);
        let watchdog = every.filter(|_| ours && socket.is_some()).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The service takes records at `address`.
    pub(crate) fn ready(&self, address: &str) {
        self.send(&format!("READY=1\nSTATUS=listening on {address}"));
    }

    /// The service takes no more records and delivers what is pending.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=delivering what is pending");
    }

    /// Says twice within the watchdog's time that the runtime still runs its
    /// tasks. A destination or a disk that is slow is no reason to be ended.
    pub(crate) async fn stay_alive(&self) -> Infallible {
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        loop {
            self.send("WATCHDOG=1");
            tokio::time::sleep(watchdog / 2).await;
        }
    }

    /// A datagram that cannot be sent is said in the log only: records matter
    /// more than who watches.
    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            warn!(%error, "the service manager was not told {message:?}");
        }
    }
}

/// A socket that never waits, and the manager's address: a path, or `@name`
/// in Linux's abstract namespace.
fn open(address: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
        [b'@', name @ ..] => in_abstract(name)?,
        // `vsock:` is for whole virtual machines.
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor @name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(target_os = "linux")]
fn in_abstract(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn in_abstract(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract sockets are Linux's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(variables: &[(&str, &str)]) -> Notify {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Notify::new(&|name| find(name).map(|(_, value)| OsString::from(value)), 7)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_at_a_path_hears_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = notify(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        notify.ready("http://127.0.0.1:7171");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=listening on http://127.0.0.1:7171");
        notify.stopping();
        assert!(heard(&manager).starts_with("STOPPING=1\n"));
        // A manager that is gone is no reason to stop.
        drop(manager);
        notify.stopping();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_manager_in_the_abstract_namespace_hears_that_we_are_alive() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("lakeward-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notify = notify(&[("NOTIFY_SOCKET", &format!("@{name}")), ("WATCHDOG_USEC", "2000")]);
        let enough = tokio::task::spawn_blocking(move || (heard(&manager), heard(&manager)));
        tokio::select! {
            twice = enough => assert_eq!(twice.unwrap(), ("WATCHDOG=1".into(), "WATCHDOG=1".into())),
            never = notify.stay_alive() => match never {},
        }
    }

    #[test]
    fn what_the_environment_says() {
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        let check = |variables: &[(&str, &str)], told: bool, watchdog: Option<u64>| {
            let notify = notify(variables);
            assert_eq!(notify.socket.is_some(), told, "{variables:?}");
            assert_eq!(notify.watchdog, watchdog.map(Duration::from_micros), "{variables:?}");
        };
        check(&[], false, None);
        check(&[("NOTIFY_SOCKET", "")], false, None);
        check(&[("NOTIFY_SOCKET", "vsock:2:1")], false, None);
        check(&[("NOTIFY_SOCKET", "/long".repeat(50).as_str())], false, None);
        check(&[("WATCHDOG_USEC", "5")], false, None);
        check(&[socket], true, None);
        check(&[socket, ("WATCHDOG_USEC", "30000000")], true, Some(30_000_000));
        check(&[socket, ("WATCHDOG_USEC", "30"), ("WATCHDOG_PID", "7")], true, Some(30));
        check(&[socket, ("WATCHDOG_USEC", "30"), ("WATCHDOG_PID", "8")], true, None);
        check(&[socket, ("WATCHDOG_USEC", "soon")], true, None);
        check(&[socket, ("WATCHDOG_USEC", "0")], true, None);
    }
}
