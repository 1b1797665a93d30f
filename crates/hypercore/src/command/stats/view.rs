//! What programs and people are shown of one workload's use. Field names are a contract.

use hypercore_api::v1;
use hypercore_model::units::format_size;
use serde::Serialize;

use crate::{table::Table, view::short_id};

/// One workload, as `stats --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StatsView {
    pub(super) id: String,
    pub(super) name: Option<String>,
    /// Of one CPU, so that two busy ones are 200.
    cpu_percent: f64,
    cpu_usage_us: u64,
    cpu_limit_millis: Option<u32>,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    network_received_bytes: u64,
    network_sent_bytes: u64,
    disk_read_bytes: u64,
    disk_written_bytes: u64,
    pids: u32,
    pids_max: Option<u32>,
    /// Of a microVM: what its own kernel says.
    guest: Option<GuestView>,
}

/// What a microVM's kernel says of itself.
#[derive(Debug, Clone, Serialize)]
struct GuestView {
    memory_total_bytes: u64,
    memory_available_bytes: u64,
    cpu_usage_us: u64,
    pids: u32,
    disk_used_bytes: u64,
    disk_total_bytes: u64,
}

impl GuestView {
    const fn new(stats: &v1::GuestStats) -> Self {
        Self {
            memory_total_bytes: stats.memory_total_bytes,
            memory_available_bytes: stats.memory_available_bytes,
            cpu_usage_us: stats.cpu_usage_us,
            pids: stats.pids,
            disk_used_bytes: stats.disk_used_bytes,
            disk_total_bytes: stats.disk_total_bytes,
        }
    }

    fn memory(&self) -> String {
        let used = self.memory_total_bytes.saturating_sub(self.memory_available_bytes);
        format!("{} / {}", format_size(used), format_size(self.memory_total_bytes))
    }

    fn disk(&self) -> String {
        format!("{} / {}", format_size(self.disk_used_bytes), format_size(self.disk_total_bytes))
    }
}

impl StatsView {
    /// The view of what the agent measured.
    pub(super) fn new(stats: &v1::WorkloadStats) -> Self {
        Self {
            id: stats.id.clone(),
            name: (!stats.name.is_empty()).then(|| stats.name.clone()),
            cpu_percent: f64::from(stats.cpu_millis) / 10.0,
            cpu_usage_us: stats.cpu_usage_us,
            cpu_limit_millis: (stats.cpu_limit_millis > 0).then_some(stats.cpu_limit_millis),
            memory_bytes: stats.memory_bytes,
            memory_limit_bytes: (stats.memory_limit_bytes > 0).then_some(stats.memory_limit_bytes),
            network_received_bytes: stats.network_received_bytes,
            network_sent_bytes: stats.network_sent_bytes,
            disk_read_bytes: stats.disk_read_bytes,
            disk_written_bytes: stats.disk_written_bytes,
            pids: stats.pids,
            pids_max: (stats.pids_max > 0).then_some(stats.pids_max),
            guest: stats.guest.as_ref().map(GuestView::new),
        }
    }

    fn memory(&self) -> String {
        let limit = self.memory_limit_bytes.map_or_else(|| "-".to_owned(), format_size);
        format!("{} / {limit}", format_size(self.memory_bytes))
    }

    fn memory_share(&self) -> String {
        let share = |limit: u64| format!("{}%", self.memory_bytes.saturating_mul(100) / limit);
        self.memory_limit_bytes.map_or_else(|| "-".to_owned(), share)
    }
}

/// The looks of several workloads, for people. What machines say of themselves has columns when there are any.
pub(super) fn table(views: &[StatsView]) -> Table {
    let heads = ["ID", "NAME", "CPU", "MEM USAGE / LIMIT", "MEM", "NET IN / OUT", "DISK IN / OUT", "PIDS"];
    let of_guests = ["GUEST MEM", "GUEST DISK"];
    let has_guests = views.iter().any(|view| view.guest.is_some());
    let mut table = Table::new(&[&heads[..], if has_guests { &of_guests[..] } else { &[] }].concat());
    for view in views {
        let pair = |a, b| format!("{} / {}", format_size(a), format_size(b));
        let mut cells = vec![
            short_id(&view.id).to_owned(),
            view.name.clone().unwrap_or_default(),
            format!("{:.1}%", view.cpu_percent),
            view.memory(),
            view.memory_share(),
            pair(view.network_received_bytes, view.network_sent_bytes),
            pair(view.disk_read_bytes, view.disk_written_bytes),
            view.pids.to_string(),
        ];
        if has_guests {
            let cell =
                |show: fn(&GuestView) -> String| view.guest.as_ref().map_or_else(|| "-".to_owned(), show);
            cells.extend([cell(GuestView::memory), cell(GuestView::disk)]);
        }
        table.cells(cells.iter().map(String::as_str));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_one_processor_and_of_the_limit() {
        let stats = v1::WorkloadStats {
            id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".into(),
            cpu_millis: 1505,
            memory_bytes: 1 << 20,
            memory_limit_bytes: 4 << 20,
            pids: 3,
            ..Default::default()
        };
        let drawn = table(&[StatsView::new(&stats)]).to_string();
        let row: Vec<_> = drawn.lines().nth(1).unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!(row[0], "1b4e28ba-2fa");
        for cell in ["150.5%", "1MiB / 4MiB", "25%", "0B / 0B"] {
            assert!(row.iter().any(|found| found.trim() == cell), "{cell} in {drawn}");
        }
    }

    #[test]
    fn machines_have_columns_of_their_own_when_there_are_any() {
        let container = StatsView::new(&v1::WorkloadStats::default());
        let guest = v1::GuestStats {
            memory_total_bytes: 512 << 20,
            memory_available_bytes: 500 << 20,
            disk_used_bytes: 1 << 20,
            disk_total_bytes: 10 << 30,
            ..Default::default()
        };
        let machine = StatsView::new(&v1::WorkloadStats { guest: Some(guest), ..Default::default() });
        assert!(!table(std::slice::from_ref(&container)).to_string().contains("GUEST"));
        let drawn = table(&[container, machine]).to_string();
        for cell in ["GUEST MEM", "12MiB / 512MiB", "1MiB / 10GiB"] {
            assert!(drawn.contains(cell), "{cell} in {drawn}");
        }
        assert!(drawn.lines().nth(1).unwrap().trim_end().ends_with('-'), "{drawn}");
    }

    #[test]
    fn without_a_limit_there_is_no_share() {
        let view = StatsView::new(&v1::WorkloadStats::default());
        assert_eq!((view.memory(), view.memory_share()), ("0B / -".to_owned(), "-".to_owned()));
    }
}
