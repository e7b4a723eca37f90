//! `CONFIG`: what can be asked for and set.

use crate::evict::PolicyName;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// Before the answer.
    Always,
    /// Once a second.
    #[default]
    EverySecond,
    /// Every half minute, and at the end.
    No,
}

impl Fsync {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
            Fsync::No => "no",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Fsync> {
        [Fsync::Always, Fsync::EverySecond, Fsync::No].into_iter().find(|kind| kind.name() == name)
    }
}

/// How much may wait to be sent to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which it is ended at once; 0: none.
    pub hard: usize,
    /// Bytes at which it is ended after `seconds`; 0: none.
    pub soft: usize,
    /// How long it may have so much.
    pub seconds: u64,
}

/// What is set. The defaults are Redis's, but for what a machine without an operating system has not.
#[derive(Clone, Debug)]
pub struct Config {
    /// Password of the default user; empty: none.
    pub requirepass: String,
    /// Bytes of keys and values at most; 0: as much as there is.
    pub maxmemory: u64,
    /// Which keys leave.
    pub policy: PolicyName,
    /// Clients at once.
    pub maxclients: usize,
    /// Seconds after which a silent client is ended; 0: never.
    pub timeout: u64,
    /// Whether there is a log.
    pub appendonly: bool,
    /// When it is made durable.
    pub appendfsync: Fsync,
    /// By how many hundredths a log must have grown since the last rewrite for the next; 0: never.
    pub rewrite_percentage: u64,
    /// And how many bytes it must have.
    pub rewrite_min_size: u64,
    /// Microseconds from which on a command is noted; negative: none.
    pub slowlog_slower_than: i64,
    /// How many are kept.
    pub slowlog_max_len: usize,
    /// Of clients that have subscribed.
    pub pubsub_limit: OutputLimit,
    /// Of all others.
    pub normal_limit: OutputLimit,
    /// Databases.
    pub databases: usize,
    /// Port.
    pub port: u16,
    /// Parameters that are only remembered, because clients set them.
    pub remembered: Vec<(&'static str, String)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            requirepass: String::new(),
            maxmemory: 0,
            policy: PolicyName::NoEviction,
            maxclients: 10_000,
            timeout: 0,
            appendonly: false,
            appendfsync: Fsync::EverySecond,
            rewrite_percentage: 100,
            rewrite_min_size: 1 << 20,
            slowlog_slower_than: 10_000,
            slowlog_max_len: 128,
            pubsub_limit: OutputLimit { hard: 8 << 20, soft: 2 << 20, seconds: 60 },
            normal_limit: OutputLimit { hard: 0, soft: 0, seconds: 0 },
            databases: 16,
            port: 6379,
            remembered: REMEMBERED.iter().map(|(name, value)| (*name, (*value).into())).collect(),
        }
    }
}

/// Names, in the order in which they are shown.
const NAMES: [&str; 16] = [
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage",
    "client-output-buffer-limit",
    "databases",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "port",
    "requirepass",
    "save",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "timeout",
    "appendfilename",
];

/// Parameters of Redis without effect here, with what is true of them.
const REMEMBERED: [(&str, &str); 22] = [
    ("activerehashing", "yes"),
    ("aof-load-truncated", "yes"),
    ("aof-use-rdb-preamble", "no"),
    ("bind", "*"),
    ("daemonize", "no"),
    ("dir", "/"),
    ("hz", "10"),
    ("lazyfree-lazy-eviction", "no"),
    ("lazyfree-lazy-expire", "no"),
    ("lazyfree-lazy-server-del", "no"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("loglevel", "notice"),
    ("maxmemory-samples", "5"),
    ("no-appendfsync-on-rewrite", "no"),
    ("notify-keyspace-events", ""),
    ("proto-max-bulk-len", "536870912"),
    ("protected-mode", "no"),
    ("stop-writes-on-bgsave-error", "yes"),
    ("tcp-backlog", "511"),
    ("tcp-keepalive", "300"),
    ("latency-monitor-threshold", "0"),
];

/// Why a parameter can't be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none of this name.
    Unknown,
    /// It is set at the start only.
    Immutable,
    /// The value is not one of it; why.
    Value(String),
}

impl Config {
    /// Names of all parameters.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().chain(REMEMBERED.iter().map(|(name, _)| *name))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<String> {
        let text = match name {
            "appendfsync" => self.appendfsync.name().into(),
            "appendonly" => yes_or_no(self.appendonly).into(),
            "auto-aof-rewrite-min-size" => self.rewrite_min_size.to_string(),
            "auto-aof-rewrite-percentage" => self.rewrite_percentage.to_string(),
            "client-output-buffer-limit" => {
                let show = |limit: OutputLimit| format!("{} {} {}", limit.hard, limit.soft, limit.seconds);
                format!("normal {} slave 0 0 0 pubsub {}", show(self.normal_limit), show(self.pubsub_limit))
            }
            "databases" => self.databases.to_string(),
            "maxclients" => self.maxclients.to_string(),
            "maxmemory" => self.maxmemory.to_string(),
            "maxmemory-policy" => self.policy.to_string(),
            "port" => self.port.to_string(),
            "requirepass" => self.requirepass.clone(),
            "save" => String::new(),
            "slowlog-log-slower-than" => self.slowlog_slower_than.to_string(),
            "slowlog-max-len" => self.slowlog_max_len.to_string(),
            "timeout" => self.timeout.to_string(),
            "appendfilename" => "appendonly.aof".into(),
            _ => {
                return self
                    .remembered
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, text)| text.clone());
            }
        };
        Some(text)
    }

    /// Sets a parameter.
    ///
    /// # Errors
    ///
    /// [`Refused`]: then nothing is set.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        match name {
            "databases" | "port" | "appendfilename" | "daemonize" | "bind" => return Err(Refused::Immutable),
            "appendonly" if yes(value)? != self.appendonly => {
                let fix = "it is chosen at the start: appendonly=yes on the command line of the image";
                return Err(Refused::Value(fix.into()));
            }
            "appendonly" => {}
            "save" if !value.is_empty() => {
                return Err(Refused::Value("there are no snapshots; appendonly=yes makes a log".into()));
            }
            "save" => {}
            "notify-keyspace-events" if !value.is_empty() => {
                return Err(Refused::Value("keyspace events are not sent".into()));
            }
            "aof-use-rdb-preamble" if yes(value)? => {
                return Err(Refused::Value("logs have no RDB preamble here".into()));
            }
            "appendfsync" => {
                let wrong =
                    || Refused::Value("argument must be one of the following: everysec, always, no".into());
                self.appendfsync = Fsync::named(&value.to_ascii_lowercase()).ok_or_else(wrong)?;
            }
            "auto-aof-rewrite-min-size" => self.rewrite_min_size = memory(value)?,
            "auto-aof-rewrite-percentage" => self.rewrite_percentage = number(value)?,
            "client-output-buffer-limit" => self.set_limits(value)?,
            "maxclients" => self.maxclients = number::<usize>(value)?.max(1),
            "maxmemory" => self.maxmemory = memory(value)?,
            "maxmemory-policy" => {
                self.policy = value.parse().map_err(|error| Refused::Value(format!("{error}")))?;
            }
            "requirepass" => self.requirepass = value.into(),
            "slowlog-log-slower-than" => self.slowlog_slower_than = number(value)?,
            "slowlog-max-len" => self.slowlog_max_len = number(value)?,
            "timeout" => self.timeout = number(value)?,
            _ => {
                let found = self.remembered.iter_mut().find(|(known, _)| *known == name);
                found.ok_or(Refused::Unknown)?.1 = value.into();
            }
        }
        Ok(())
    }

    fn set_limits(&mut self, value: &str) -> Result<(), Refused> {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err(Refused::Value("Wrong number of arguments in buffer limit configuration.".into()));
        }
        for class in words.chunks_exact(4) {
            let limit = OutputLimit {
                hard: memory(class[1])? as usize,
                soft: memory(class[2])? as usize,
                seconds: number(class[3])?,
            };
            match class[0].to_ascii_lowercase().as_str() {
                "normal" => self.normal_limit = limit,
                "pubsub" => self.pubsub_limit = limit,
                // There are no replicas to be limited.
                "slave" | "replica" => {}
                _ => {
                    let text = "Invalid client class specified in buffer limit configuration.";
                    return Err(Refused::Value(text.into()));
                }
            }
        }
        Ok(())
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn yes(value: &str) -> Result<bool, Refused> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(Refused::Value("argument must be 'yes' or 'no'".into())),
    }
}

fn number<T: core::str::FromStr>(value: &str) -> Result<T, Refused> {
    value.parse().map_err(|_| Refused::Value("argument couldn't be parsed into an integer".into()))
}

/// Bytes, with the units of Redis: `k` is a thousand, `kb` 1024.
pub fn memory(value: &str) -> Result<u64, Refused> {
    let wrong = || Refused::Value("argument must be a memory value".into());
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match value[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err(wrong()),
    };
    value[..digits].parse::<u64>().ok().and_then(|count| count.checked_mul(unit)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_got() {
        let mut config = Config::default();
        for (name, value, shown) in [
            ("maxmemory", "100mb", "104857600"),
            ("maxmemory-policy", "allkeys-lru", "allkeys-lru"),
            ("maxmemory-policy", "Allkeys-S3-FIFO", "allkeys-s3-fifo"),
            ("maxmemory-policy", "volatile-own", "volatile-own"),
            ("appendfsync", "ALWAYS", "always"),
            ("timeout", "5", "5"),
            ("hz", "100", "100"),
            ("client-output-buffer-limit", "pubsub 1kb 512 3", "normal 0 0 0 slave 0 0 0 pubsub 1024 512 3"),
        ] {
            config.set(name, value).unwrap();
            assert_eq!(config.get(name).as_deref(), Some(shown), "{name}");
        }
        assert!(Config::names().all(|name| config.get(name).is_some()));
    }

    #[test]
    fn what_can_t_be_is_refused_and_nothing_changes() {
        let mut config = Config::default();
        for (name, value) in [
            ("maxmemory", "many"),
            ("maxmemory-policy", "allkeys-best"),
            ("appendonly", "yes"),
            ("appendonly", "perhaps"),
            ("save", "60 1"),
            ("timeout", "-1"),
            ("client-output-buffer-limit", "pubsub 1 2"),
        ] {
            assert!(matches!(config.set(name, value), Err(Refused::Value(_))), "{name} {value}");
        }
        assert_eq!(config.set("port", "1"), Err(Refused::Immutable));
        assert_eq!(config.set("nothing", "1"), Err(Refused::Unknown));
    }
}
