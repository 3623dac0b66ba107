//! Counters of the last two readings, and the rates of the readings before them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

use super::{
    ExitBreakdown, ExitCounters, TopNames, TopReading, trend::TREND_SAMPLES, trend::Trend,
};
use crate::{
    host::VcpuActivity,
    model::{Loss, VcpuId, pid_of},
    outside_text::OutsideText,
    view::exits::normalize_vcpu_id,
};

/// Counters and rates per vCPU and key.
///
/// It takes 0.7 KB for each vCPU and key: 22 MB for 1,600 vCPUs with 20 exit reasons each.
#[derive(Debug, Default)]
pub struct ReadingHistory {
    /// Index in `rows` of a vCPU and key.
    row_indices: HashMap<(VcpuId, Key), usize>,
    pub(super) rows: Vec<Row>,
    pub(super) vcpus: BTreeMap<VcpuId, Vcpu>,
    names: TopNames,
    /// TGIDs of VMs that are shown with their pid, because another VM has the same name.
    same_names: HashSet<u32>,
    /// Number of readings so far.
    readings: u64,
    /// Number of samples in each row's trend so far, including those that were overwritten.
    samples: usize,
    /// Time of the last reading; 0 before the first.
    pub(super) time_ns: u64,
    /// Time between the last two readings.
    pub(super) elapsed_ns: u64,
    loss: Loss,
    recent_loss: Loss,
}

/// Counters of one vCPU and key.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) vcpu_id: VcpuId,
    pub(super) key: Key,
    /// Counters at the last reading but one.
    before: ExitCounters,
    /// Counters at the last reading.
    now: ExitCounters,
    /// Whether the guest is idle during exits with this key.
    pub(super) is_halt: bool,
    /// Exits between the last two readings.
    pub(super) recent_breakdown: ExitBreakdown,
    pub(super) trend: Trend,
    /// Number of the last reading that contained this row.
    reading: u64,
}

/// Guest time and lifetime of one vCPU.
#[derive(Debug, Default)]
pub(super) struct Vcpu {
    guest_before_ns: u64,
    guest_now_ns: u64,
    /// Time of the last reading without this vCPU, before the first one with it.
    pub(super) since_ns: u64,
    /// Time of the first reading at which the vCPU had ended.
    pub(super) ended_ns: Option<u64>,
    /// Whether the programs have seen the vCPU. Otherwise its times are not known.
    pub(super) is_measured: bool,
    /// What the vCPU does if its VM made no exits since the previous reading.
    pub(super) activity: Option<VcpuActivity>,
}

impl Row {
    /// Returns the breakdown of all exits since the start of the measurement.
    pub(super) fn total_breakdown(&self) -> ExitBreakdown {
        ExitBreakdown::between(&ExitCounters::default(), &self.now, self.is_halt)
    }
}

impl Vcpu {
    pub(super) fn recent_guest_ns(&self) -> u64 {
        self.guest_now_ns.saturating_sub(self.guest_before_ns)
    }

    pub(super) fn total_guest_ns(&self) -> u64 {
        self.guest_now_ns
    }
}

impl ReadingHistory {
    /// Adds a reading. `interval_ns` is the configured time between readings: a trend has one sample
    /// per interval, so a reading that comes late adds several.
    pub fn add_reading(&mut self, reading: &TopReading, interval_ns: u64) {
        self.add_names(&reading.names);
        self.readings += 1;
        let before_ns = self.time_ns;
        self.time_ns = reading.time_ns;
        self.elapsed_ns = reading.time_ns.saturating_sub(before_ns);
        self.recent_loss = reading.loss.since(&self.loss);
        self.loss = reading.loss;
        self.update_rows(reading);
        self.update_vcpus(reading, before_ns);
        self.remove_unused_names();
        self.find_same_names();
        let samples = (self.elapsed_ns + interval_ns / 2) / interval_ns.max(1);
        let samples = usize::try_from(samples)
            .unwrap_or(TREND_SAMPLES)
            .clamp(1, TREND_SAMPLES);
        let per_s = per_second(self.elapsed_ns);
        for row in &mut self.rows {
            #[expect(clippy::cast_precision_loss, reason = "a sparkline shows eight levels")]
            let rate = |number: u64| number as f32 * per_s;
            let (exits, cost) = (
                rate(row.recent_breakdown.exits),
                rate(row.recent_breakdown.cost_ns()),
            );
            for sample in 0..samples {
                let index = (self.samples + sample) % TREND_SAMPLES;
                row.trend.set(index, exits, cost);
            }
        }
        self.samples += samples;
    }

    fn update_rows(&mut self, reading: &TopReading) {
        for row in &mut self.rows {
            row.before = std::mem::take(&mut row.now);
        }
        for tally in &reading.thread_counters {
            let (rows, keys) = (&mut self.rows, &self.names.keys);
            let index = *self
                .row_indices
                .entry((tally.vcpu_id, tally.key))
                .or_insert_with(|| {
                    rows.push(Row {
                        vcpu_id: tally.vcpu_id,
                        key: tally.key,
                        before: ExitCounters::default(),
                        now: ExitCounters::default(),
                        is_halt: keys.get(&tally.key).is_some_and(|it| it.is_halt),
                        recent_breakdown: ExitBreakdown::default(),
                        trend: Trend::new(),
                        reading: 0,
                    });
                    rows.len() - 1
                });
            let row = &mut rows[index];
            row.reading = self.readings;
            row.now.merge(&tally.counters);
        }
        // Remove rows that the source no longer reports: it merges VMs that ended long ago.
        let readings = self.readings;
        if self.rows.iter().any(|row| row.reading != readings) {
            self.rows.retain(|row| row.reading == readings);
            let rows = self.rows.iter().enumerate();
            self.row_indices = rows
                .map(|(index, row)| ((row.vcpu_id, row.key), index))
                .collect();
        }
        for row in &mut self.rows {
            row.recent_breakdown = ExitBreakdown::between(&row.before, &row.now, row.is_halt);
        }
    }

    /// Removes the names of VMs and keys that are no longer present.
    fn remove_unused_names(&mut self) {
        let vms: HashSet<u32> = self.vcpus.keys().map(|it| it.tgid).collect();
        self.names.vms.retain(|tgid, _| vms.contains(tgid));
        let keys: HashSet<Key> = self.rows.iter().map(|it| it.key).collect();
        self.names.keys.retain(|key, _| keys.contains(key));
    }

    fn update_vcpus(&mut self, reading: &TopReading, before_ns: u64) {
        for it in self.vcpus.values_mut() {
            it.guest_before_ns = std::mem::take(&mut it.guest_now_ns);
            it.activity = None;
        }
        let mut is_alive_by_vcpu = BTreeMap::new();
        for times in &reading.vcpus {
            let vcpu_id = normalize_vcpu_id(times.vcpu_id);
            let it = self.vcpus.entry(vcpu_id).or_insert_with(|| Vcpu {
                since_ns: before_ns,
                ..Vcpu::default()
            });
            it.guest_now_ns = it.guest_now_ns.saturating_add(times.guest_ns);
            it.is_measured = true;
            // Another thread may run the vCPU of a thread that has ended.
            *is_alive_by_vcpu.entry(vcpu_id).or_default() |= !times.has_ended;
        }
        for (vcpu_id, activity) in &reading.idle_vcpus {
            let it = self.vcpus.entry(*vcpu_id).or_insert_with(|| Vcpu {
                since_ns: before_ns,
                ..Vcpu::default()
            });
            it.activity = Some(*activity);
            is_alive_by_vcpu.insert(*vcpu_id, true);
        }
        self.vcpus
            .retain(|vcpu_id, it| match is_alive_by_vcpu.get(vcpu_id) {
                Some(true) => {
                    it.ended_ns = None;
                    true
                }
                Some(false) => {
                    it.ended_ns.get_or_insert(reading.time_ns);
                    true
                }
                None => false,
            });
    }

    /// Adds names, or replaces them.
    pub fn add_names(&mut self, names: &TopNames) {
        let vms = names.vms.iter().map(|(tgid, name)| (*tgid, name.clone()));
        self.names.vms.extend(vms);
        let keys = names.keys.iter().map(|(key, name)| (*key, name.clone()));
        self.names.keys.extend(keys);
        self.find_same_names();
    }

    /// Finds the VMs whose names are shown equally.
    fn find_same_names(&mut self) {
        let mut by_name: HashMap<Cow<'_, str>, Vec<u32>> = HashMap::new();
        for (tgid, name) in &self.names.vms {
            let shown = OutsideText::new(name).as_name();
            by_name.entry(shown).or_default().push(*tgid);
        }
        let same = by_name.into_values().filter(|vms| vms.len() > 1);
        self.same_names = same.flatten().collect();
    }

    /// Returns the name of a VM, with its PID if another VM has the same name, or its PID alone if the name is not known.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> String {
        let (name, pid) = self.vm_name_and_pid(tgid);
        name + &pid
    }

    /// Returns the parts of [`ReadingHistory::vm_name`]. The PID is empty if the name is unique.
    pub(super) fn vm_name_and_pid(&self, tgid: u32) -> (String, String) {
        let pid = pid_of(tgid);
        match (self.names.vms.get(&tgid), tgid) {
            (_, 0) => ("ended VMs".into(), String::new()),
            (Some(name), _) if self.same_names.contains(&tgid) => {
                (name.clone(), format!(" (pid {pid})"))
            }
            (Some(name), _) => (name.clone(), String::new()),
            (None, _) => (format!("pid {pid}"), String::new()),
        }
    }

    /// Returns the name of a vCPU: its index, or the id of its thread if the index is not known.
    #[must_use]
    pub fn vcpu_name(vcpu_id: VcpuId) -> String {
        match vcpu_id.vcpu {
            VCPU_UNKNOWN => format!("tid {}", vcpu_id.tid),
            index => format!("vCPU {index}"),
        }
    }

    /// Returns the name of a key, or its code if the name is not known.
    #[must_use]
    pub fn key_name(&self, key: Key) -> String {
        let name = self.names.keys.get(&key).map(|it| it.name.clone());
        name.unwrap_or_else(|| format!("{:#x}", key.code))
    }

    /// Returns the time of the last reading, in ns since the start of the measurement.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Returns the time between the last two readings.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
    }

    /// Returns the losses since the start of the measurement, and those between the last two
    /// readings.
    #[must_use]
    pub fn total_and_recent_loss(&self) -> (Loss, Loss) {
        (self.loss, self.recent_loss)
    }

    /// Returns how many samples were added to each trend. The trend stores the last
    /// [`TREND_SAMPLES`] of them.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples
    }

    /// Returns whether any exit has a duration. On a host where `kvm_exit` does not fire, none has.
    #[must_use]
    pub fn has_durations(&self) -> bool {
        self.rows.iter().any(|row| row.now.total_ns > 0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sparkline shows eight levels")]
fn per_second(elapsed_ns: u64) -> f32 {
    1e9 / elapsed_ns.max(1) as f32
}
