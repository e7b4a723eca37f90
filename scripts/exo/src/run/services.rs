//! Where the servers of a machine are reached: what they say themselves, and the ports that are published.
//!
//! A server prints a line `NAME: listening on ADDRESS:PORT` when it can be asked, as `httpd` does.

use crate::machine::publish::Publish;
use serde::Serialize;

/// What a server's line has before its address.
const LISTENING: &str = ": listening on ";

/// A published port. A line of the JSON file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Where it is reached on this host.
    published: String,
    protocol: &'static str,
    /// Port of the machine.
    port: u16,
}

/// A server. A line of the JSON file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listening {
    /// Its environment.
    listening: String,
    /// Its own address and port.
    address: String,
    /// Where it is reached on this host, if its port is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached_at: Option<String>,
}

/// What is known of servers.
#[derive(Default)]
pub struct Services {
    /// The published ports.
    pub published: Vec<Published>,
    /// The servers that have said so.
    pub listening: Vec<Listening>,
}

impl Services {
    /// Before any server has said anything.
    pub fn new(ports: &[Publish]) -> Services {
        let published = ports.iter().map(|port| Published {
            published: format!("127.0.0.1:{}", port.host),
            protocol: port.protocol(),
            port: port.guest,
        });
        Services { published: published.collect(), listening: Vec::new() }
    }

    /// Takes a line of an environment. If it is of a server whose port is published, returns where that is
    /// reached.
    pub fn line(&mut self, environment: &str, text: &str) -> Option<String> {
        let (_, address) = text.split_once(LISTENING)?;
        let address = address.split_ascii_whitespace().next()?;
        let port: u16 = address.rsplit(':').next()?.parse().ok()?;
        let reached = self.published.iter().find(|one| one.port == port && one.protocol == "tcp");
        let reached_at = reached.map(|one| one.published.clone());
        self.listening.push(Listening {
            listening: environment.to_owned(),
            address: address.to_owned(),
            reached_at: reached_at.clone(),
        });
        reached_at.map(|at| format!("{address} of {environment} is reached at {at}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_published_ports_are_brought_together() {
        let ports = ["8080:80", "5353:53/udp"].map(|text| text.parse().unwrap());
        let mut services = Services::new(&ports);
        let told = services.line("web", "httpd: listening on 10.0.2.15:80 and more");
        assert_eq!(told.as_deref(), Some("10.0.2.15:80 of web is reached at 127.0.0.1:8080"));
        assert_eq!(services.line("names", "dns: listening on 10.0.2.15:53"), None);
        assert_eq!(services.line("web", "nothing"), None);
        let json = serde_json::to_string(&services.listening).unwrap();
        assert_eq!(
            json,
            "[{\"listening\":\"web\",\"address\":\"10.0.2.15:80\",\"reached_at\":\"127.0.0.1:8080\"},\
             {\"listening\":\"names\",\"address\":\"10.0.2.15:53\"}]"
        );
        let json = serde_json::to_string(&services.published[1]).unwrap();
        assert_eq!(json, "{\"published\":\"127.0.0.1:5353\",\"protocol\":\"udp\",\"port\":53}");
    }
}
