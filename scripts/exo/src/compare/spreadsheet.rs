//! The results as comma-separated values: a line for each boot.

use super::boot::Sample;
use crate::error::{Error, Result};
use crate::host::output::write_atomically;
use crate::machine::conditions::Conditions;
use results::{CompareLine, Role};
use serde::Serialize;
use std::path::Path;

/// A line; its fields are the columns.
#[derive(Serialize)]
struct CsvLine<'a> {
    workload: &'a str,
    policy: &'a str,
    role: Role,
    cache_blocks: u64,
    data_blocks: u64,
    run: u32,
    references: u64,
    hits: u64,
    misses: u64,
    opt_misses: Option<u64>,
    fixed_misses: Option<u64>,
    reads: u64,
    read_requests: u64,
    writes: u64,
    elapsed_ms: f64,
    verified: bool,
    platform: Option<&'a str>,
    accel: Option<&'a str>,
    disk_iops: Option<u64>,
    disk_mbps: Option<u64>,
    commit: &'a str,
    read_ahead: &'a str,
    policy_lines: Option<u64>,
    gets_per_second: Option<f64>,
    get_p50_us: Option<f64>,
    get_p99_us: Option<f64>,
}

/// Writes the file.
pub fn write(path: &Path, samples: &[Sample], conditions: &Conditions) -> Result<()> {
    write_atomically(path, &lines(samples, conditions)?)
}

fn lines(samples: &[Sample], conditions: &Conditions) -> Result<Vec<u8>> {
    let failed =
        |error: String| Error::Measurement(format!("the results as comma-separated values: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for sample in samples {
        writer.serialize(line(sample, conditions)).map_err(|error| failed(error.to_string()))?;
    }
    writer.into_inner().map_err(|error| failed(error.to_string()))
}

fn line<'a>(sample: &'a Sample, conditions: &'a Conditions) -> CsvLine<'a> {
    let line: &CompareLine = &sample.line;
    CsvLine {
        workload: &line.workload,
        policy: &line.policy,
        role: line.role,
        cache_blocks: line.cache_blocks,
        data_blocks: line.data_blocks,
        run: sample.run,
        references: line.references,
        hits: line.hits,
        misses: line.misses,
        opt_misses: line.opt_misses,
        fixed_misses: line.fixed_misses,
        reads: line.reads,
        read_requests: line.read_requests,
        writes: line.writes,
        elapsed_ms: line.elapsed_ms,
        verified: line.verified,
        platform: line.platform.as_deref(),
        accel: line.accel.as_deref(),
        disk_iops: conditions.disk_iops,
        disk_mbps: conditions.disk_mbps,
        commit: &conditions.commit,
        read_ahead: &line.read_ahead,
        policy_lines: sample.policy_lines,
        gets_per_second: line.point_reads.map(|reads| reads.per_second),
        get_p50_us: line.point_reads.map(|reads| reads.p50_us),
        get_p99_us: line.point_reads.map(|reads| reads.p99_us),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::conditions;
    use super::super::summary::tests::samples;
    use super::*;

    #[test]
    fn a_line_for_each_boot_below_the_heads() {
        let text = String::from_utf8(lines(&samples(), &conditions()).unwrap()).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 1 + samples().len());
        assert_eq!(rows[0][..4], ["workload", "policy", "role", "cache_blocks"]);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!(rows[0][20..23], ["commit", "read_ahead", "policy_lines"]);
        assert_eq!((rows[1][22], rows[2][22]), ("", "11"));
        assert_eq!(rows[1][..9], ["din", "default", "default", "80", "100", "0", "500", "0", "500"]);
    }
}
