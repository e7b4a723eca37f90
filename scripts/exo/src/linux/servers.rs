//! Servers of Debian's in a Linux guest on the network: the peers of `unikernels/httpd` and others.
//!
//! Their programs come from Debian's packages, with the libraries they need; nothing is installed.

use super::packages::{program, unpacked};
use super::{Kernel, LinuxGuest, Step};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use std::path::{Path, PathBuf};

/// A server.
#[derive(Clone, Copy, Debug)]
pub enum Server<'a> {
    /// nginx with these files, at port 80. Without an access log, and with one process, as there is one core.
    Nginx {
        /// The directory of the files.
        site: &'a Path,
    },
    /// redis-server, which keeps nothing on a disk, at port 6379.
    Redis,
    /// What takes and gives bytes without end: see `linux_init::STREAMS`.
    Streams {
        /// Its port.
        port: u16,
    },
}

/// Modules for a network card on virtio, by PCI.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];
/// The card in the guest.
const CARD: &str = "eth0";
/// One program for what a shell would be used for.
const BUSYBOX: &str = "/bin/busybox";
/// Where the files of nginx are in the guest.
const SITE: &str = "/site";
/// Accounts, without which nginx does not start.
const ACCOUNTS: [(&str, &str); 2] = [("/etc/passwd", "root:x:0:0::/:/none\n"), ("/etc/group", "root:x:0:\n")];
/// How nginx is to be: as in Debian's own file, but for what is said in [`Server::Nginx`], and no limit on
/// what one connection may ask for, as there is none elsewhere.
const NGINX: &str = "user root;
worker_processes 1;
daemon off;
master_process off;
error_log stderr crit;
pid /tmp/nginx.pid;
events { worker_connections 20000; }
http {
    sendfile on;
    tcp_nopush on;
    access_log off;
    keepalive_requests 100000000;
    client_max_body_size 0;
    default_type application/octet-stream;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    open_file_cache max=100;
    server { listen 80 backlog=4096; root /site; }
}
";

impl Server<'_> {
    /// Its port.
    pub fn port(self) -> u16 {
        match self {
            Server::Nginx { .. } => 80,
            Server::Redis => 6379,
            Server::Streams { port } => port,
        }
    }
}

/// The guest that runs a server, with `address`, such as 10.0.0.2/24, on its card. It does not end by itself.
///
/// # Errors
///
/// [`Error::NotOffered`] if a package can't be had here.
pub fn guest(checkout: &Checkout, server: Server<'_>, address: &str) -> Result<LinuxGuest> {
    let mut guest = LinuxGuest::new(Kernel::fetch(checkout)?);
    guest.file_systems = true;
    guest.modules = MODULES.to_vec();
    guest.files.push((BUSYBOX.into(), unpacked(checkout, "busybox-static")?.join("bin/busybox")));
    let run = |path: &str, words: &[&str]| Step::Run {
        path: path.into(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    guest.steps = vec![
        run(BUSYBOX, &["ip", "link", "set", "lo", "up"]),
        run(BUSYBOX, &["ip", "addr", "add", address, "dev", CARD]),
        run(BUSYBOX, &["ip", "link", "set", CARD, "up"]),
    ];
    match server {
        Server::Nginx { site } => {
            guest.files.extend(program(checkout, "nginx", "usr/sbin/nginx", "/usr/sbin/nginx")?);
            guest.files.extend(texts(checkout, &[("/etc/nginx/nginx.conf", NGINX)])?);
            guest.files.extend(texts(checkout, &ACCOUNTS)?);
            // It wants to write there before it has read what it is to be.
            guest.files.extend(texts(checkout, &[("/var/log/nginx/error.log", "")])?);
            guest.files.extend(below(site, SITE)?);
            guest.steps.push(run("/usr/sbin/nginx", &["-c", "/etc/nginx/nginx.conf"]));
        }
        Server::Redis => {
            // One program under two names.
            let found = "usr/bin/redis-check-rdb";
            guest.files.extend(program(checkout, "redis-tools", found, "/usr/bin/redis-server")?);
            guest.files.extend(texts(checkout, &ACCOUNTS)?);
            let words = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no"];
            guest.steps.push(run("/usr/bin/redis-server", &words));
        }
        Server::Streams { port } => {
            guest.steps.push(run("/init", &[linux_init::STREAMS, &port.to_string()]));
        }
    }
    Ok(guest)
}

/// Texts as files of a guest: they are kept beside its other files.
fn texts(checkout: &Checkout, files: &[(&str, &str)]) -> Result<Vec<(String, PathBuf)>> {
    let folder = checkout.artefacts("linux")?;
    let kept = |(path, content): &(&str, &str)| {
        let file = folder.join(format!("text-{:08x}", crc32fast::hash(content.as_bytes())));
        crate::host::output::write_atomically(&file, content.as_bytes())?;
        Ok(((*path).to_owned(), file))
    };
    files.iter().map(kept).collect()
}

/// The files in a directory, as files below `place` in a guest.
fn below(folder: &Path, place: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let name = format!("{place}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            files.extend(below(&path, &name)?);
        } else {
            files.push((name, path));
        }
    }
    Ok(files)
}
