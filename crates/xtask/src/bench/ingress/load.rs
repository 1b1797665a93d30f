//! One run of the load generator, `wrk`, and what it says.
//!
//! It refuses runs in which anything but 200 came back.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::proxy::Proxy;
use crate::shell;

/// How long one run takes.
pub(super) const SECONDS: u32 = 4;
const CONNECTIONS: u32 = 64;

/// What one run showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// Requests per second of the proxy's own CPU time.
    pub(super) per_core: f64,
    /// The 99th percentile of the latency, in milliseconds.
    pub(super) p99_ms: f64,
}

impl Run {
    /// The median of each number.
    pub(super) fn median(runs: &[Self]) -> Self {
        let middle = |number: fn(&Self) -> f64| {
            let mut sorted: Vec<f64> = runs.iter().map(number).collect();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or_default()
        };
        Self { per_core: middle(|run| run.per_core), p99_ms: middle(|run| run.p99_ms) }
    }
}

/// Loads a proxy and measures.
///
/// # Errors
/// When the generator fails, or sees anything but 200.
pub(super) fn load(proxy: &Proxy, tls: bool) -> Result<Run> {
    let url = format!("{}://{}/", if tls { "https" } else { "http" }, proxy.address());
    let before = proxy.cpu_time()?;
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--latency", "--header", "Host: web.bench"]);
    command.args(["--connections", &CONNECTIONS.to_string(), "--duration", &format!("{SECONDS}s"), &url]);
    let said = shell::read(&mut command)?;
    let used = proxy.cpu_time()?.saturating_sub(before);
    let (requests, p99_ms) = parse(&said).with_context(|| format!("wrk said:\n{said}"))?;
    let has_errors = said.contains("Non-2xx") || said.contains("Socket errors");
    ensure!(!has_errors, "not every request was answered with 200; wrk said:\n{said}");
    Ok(Run { per_core: requests / used.as_secs_f64(), p99_ms })
}

/// The number of requests and the 99th percentile in milliseconds.
fn parse(said: &str) -> Option<(f64, f64)> {
    let lines = || said.lines().map(str::trim);
    let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
    let p99 = lines().find_map(|line| line.strip_prefix("99%"))?.trim();
    let split = p99.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match &p99[split..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some((requests, p99[..split].parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_says() {
        let said = "Running 1s test @ http://127.0.0.1:1/\n  Latency Distribution\n     50%  812.00us\n\
                    \x20    99%    2.35ms\n  71234 requests in 1.00s, 10.00MB read\nRequests/sec:  71234.00\n";
        assert_eq!(parse(said), Some((71234.0, 2.35)));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn medians_are_of_each_number_on_its_own() {
        let run = |per_core, p99_ms| Run { per_core, p99_ms };
        assert_eq!(Run::median(&[run(1.0, 9.0), run(3.0, 7.0), run(2.0, 8.0)]), run(2.0, 8.0));
    }
}
