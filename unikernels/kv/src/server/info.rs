//! `INFO`: what the server is like, section by section, as Redis says it.

use super::state::Server;
use crate::resp::Arguments;
use crate::store::DATABASES;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

/// The version of Redis whose commands these are.
pub const REDIS_VERSION: &str = "7.0.15";

const DEFAULT: [&str; 9] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "keyspace"];

impl Server {
    /// `INFO`.
    pub(super) fn info(&mut self, place: usize, args: Arguments<'_>) {
        let mut wanted: Vec<String> =
            args.from(1).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
        if wanted.is_empty() || wanted.iter().any(|word| matches!(&**word, "all" | "default" | "everything"))
        {
            wanted.extend(DEFAULT.iter().map(|name| (*name).into()));
        }
        let mut text = String::new();
        for section in DEFAULT {
            if !wanted.iter().any(|word| word == section) {
                continue;
            }
            let (title, lines) = self.section(section);
            if !text.is_empty() {
                text += "\r\n";
            }
            // Writing to a string can't fail.
            let _ = write!(text, "# {title}\r\n");
            for (key, value) in lines {
                let _ = write!(text, "{key}:{value}\r\n");
            }
        }
        self.reply(place).verbatim(text.as_bytes());
    }

    fn section(&mut self, name: &str) -> (&'static str, Vec<(String, String)>) {
        let own = |lines: Vec<(&str, String)>| {
            lines.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<Vec<_>>()
        };
        match name {
            "server" => ("Server", own(self.server_lines())),
            "clients" => ("Clients", own(self.client_lines())),
            "memory" => ("Memory", own(self.memory_lines())),
            "persistence" => ("Persistence", own(self.persistence_lines())),
            "stats" => ("Stats", own(self.stats_lines())),
            "replication" => {
                let lines =
                    [("role", "master"), ("connected_slaves", "0"), ("master_failover_state", "no-failover")];
                ("Replication", own(lines.map(|(key, value)| (key, value.into())).into()))
            }
            "cpu" => {
                let seconds = (self.clock.now_ns() - self.since_ns) as f64 / 1e9;
                // The processor is the server's alone, and it runs in one mode.
                let lines = [("used_cpu_sys", 0.0), ("used_cpu_user", seconds)];
                ("CPU", own(lines.map(|(key, value)| (key, format!("{value:.6}"))).into()))
            }
            "modules" => ("Modules", Vec::new()),
            _ => ("Keyspace", self.keyspace_lines()),
        }
    }

    fn server_lines(&self) -> Vec<(&'static str, String)> {
        let up_s = (self.clock.now_ns() - self.since_ns) / 1_000_000_000;
        Vec::from([
            ("redis_version", REDIS_VERSION.into()),
            ("redis_git_sha1", "00000000".into()),
            ("redis_git_dirty", "0".into()),
            ("redis_mode", "standalone".into()),
            ("os", format!("HyperExo libos-core {}", env!("CARGO_PKG_VERSION"))),
            ("arch_bits", "64".into()),
            ("multiplexing_api", "libos-net".into()),
            ("process_id", "1".into()),
            ("run_id", self.run_id.clone()),
            ("tcp_port", self.config.port.to_string()),
            ("server_time_usec", (self.clock.now_ms() * 1000).to_string()),
            ("uptime_in_seconds", up_s.to_string()),
            ("uptime_in_days", (up_s / 86_400).to_string()),
            ("hz", "10".into()),
            ("configured_hz", "10".into()),
            ("executable", "kv".into()),
            ("config_file", String::new()),
        ])
    }

    fn client_lines(&self) -> Vec<(&'static str, String)> {
        let largest = self.clients.iter().map(|client| client.input_bytes).max().unwrap_or(0);
        let output = self.clients.iter().map(|client| client.out.len()).max().unwrap_or(0);
        Vec::from([
            ("connected_clients", self.clients.len().to_string()),
            ("cluster_connections", "0".into()),
            ("maxclients", self.config.maxclients.to_string()),
            ("client_recent_max_input_buffer", largest.to_string()),
            ("client_recent_max_output_buffer", output.to_string()),
            ("blocked_clients", self.waiting.len().to_string()),
            ("tracking_clients", "0".into()),
        ])
    }

    fn memory_lines(&mut self) -> Vec<(&'static str, String)> {
        let used = self.store.used_bytes();
        self.peak_bytes = self.peak_bytes.max(used);
        let (peak, most) = (self.peak_bytes, self.config.maxmemory);
        Vec::from([
            ("used_memory", used.to_string()),
            ("used_memory_human", human(used as u64)),
            ("used_memory_rss", used.to_string()),
            ("used_memory_peak", peak.to_string()),
            ("used_memory_peak_human", human(peak as u64)),
            ("used_memory_dataset", used.to_string()),
            ("total_system_memory", self.memory_bytes.to_string()),
            ("total_system_memory_human", human(self.memory_bytes)),
            ("maxmemory", most.to_string()),
            ("maxmemory_human", human(most)),
            ("maxmemory_policy", self.config.policy.to_string()),
            ("mem_fragmentation_ratio", "1.00".into()),
            ("mem_allocator", "talc".into()),
        ])
    }

    fn persistence_lines(&self) -> Vec<(&'static str, String)> {
        let status = self.log.as_ref().map(|log| (log.status(), log.position() - log.durable()));
        let mut lines = Vec::from([
            ("loading", "0".into()),
            ("rdb_changes_since_last_save", self.counts.changes.to_string()),
            ("rdb_bgsave_in_progress", "0".into()),
            ("rdb_last_save_time", "0".into()),
            ("rdb_last_bgsave_status", "ok".into()),
            ("aof_enabled", u8::from(status.is_some()).to_string()),
            ("aof_rewrite_in_progress", u8::from(status.is_some_and(|(log, _)| log.rewriting)).to_string()),
            ("aof_rewrite_scheduled", "0".into()),
            ("aof_last_bgrewrite_status", "ok".into()),
            ("aof_last_write_status", if self.log_error.is_some() { "err" } else { "ok" }.into()),
        ]);
        if let Some((log, waiting)) = status {
            lines.extend([
                ("aof_rewrites", log.rewrites.to_string()),
                ("aof_current_size", log.bytes.to_string()),
                ("aof_base_size", log.base_bytes.to_string()),
                ("aof_buffer_length", waiting.to_string()),
                ("aof_commits", log.commits.to_string()),
            ]);
        }
        lines
    }

    fn stats_lines(&self) -> Vec<(&'static str, String)> {
        let statistics = self.store.statistics;
        let patterns = self.channels.patterns().count();
        let channels = self.channels.names(super::channels::Kind::Channel).count();
        let numbers = [
            ("total_connections_received", self.counts.connections),
            ("total_commands_processed", self.counts.commands),
            ("instantaneous_ops_per_sec", self.rate.per_second),
            ("total_net_input_bytes", self.counts.input),
            ("total_net_output_bytes", self.counts.output),
            ("rejected_connections", self.counts.refused),
            ("expired_keys", statistics.expired),
            ("evicted_keys", self.counts.evicted),
            ("keyspace_hits", statistics.hits),
            ("keyspace_misses", statistics.misses),
            ("pubsub_channels", channels as u64),
            ("pubsub_patterns", patterns as u64),
            ("total_error_replies", self.counts.errors),
            ("total_writes_processed", self.counts.writes),
            ("slowlog_length", self.slowlog.len() as u64),
        ];
        numbers.into_iter().map(|(key, value)| (key, value.to_string())).collect()
    }

    fn keyspace_lines(&self) -> Vec<(String, String)> {
        let now_ms = self.clock.now_ms();
        let used = (0..DATABASES as u8).filter(|database| self.store.len(*database) > 0);
        used.map(|database| {
            let (keys, expires) = (self.store.len(database), self.store.expiring(database));
            let ttl = self.store.mean_ttl_ms(database, now_ms);
            (format!("db{database}"), format!("keys={keys},expires={expires},avg_ttl={ttl}"))
        })
        .collect()
    }
}

/// Bytes in the unit that suits them.
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.2}{}", units[unit]) }
}
