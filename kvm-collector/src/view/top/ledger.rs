//! What was counted up to the last reading, up to the one before, and how it went before that.

use std::collections::{BTreeMap, HashMap, HashSet};

use kvm_ebpf_common::Key;

use super::{ExitCounters, ExitBreakdown, TopNames, TopReading, trend::TREND_SAMPLES, trend::Trend};
use crate::{
    model::{Loss, VcpuId},
    view::exits::vcpu,
};

/// The finest numbers there are, with their past: 0.7 KB for each vCPU and key, so 22 MB for 1,600 vCPUs
/// that exit for 20 reasons each.
#[derive(Debug, Default)]
pub struct ReadingHistory {
    /// Where the row of a vCPU and key is.
    places: HashMap<(VcpuId, Key), usize>,
    pub(super) rows: Vec<Row>,
    pub(super) vcpus: BTreeMap<VcpuId, Vcpu>,
    names: TopNames,
    /// Readings taken.
    readings: u64,
    /// Samples taken of all rows' trends.
    samples: usize,
    /// When the last reading was; 0 before the first.
    pub(super) time_ns: u64,
    /// How long it was since the one before.
    pub(super) elapsed_ns: u64,
    loss: Loss,
    recent_loss: Loss,
}

/// One vCPU and key.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) vcpu_id: VcpuId,
    pub(super) key: Key,
    before: ExitCounters,
    now: ExitCounters,
    pub(super) is_halt: bool,
    /// Between the last two readings.
    pub(super) spent: ExitBreakdown,
    pub(super) trend: Trend,
    reading: u64,
}

/// One vCPU.
#[derive(Debug, Default)]
pub(super) struct Vcpu {
    guest_before_ns: u64,
    guest_now_ns: u64,
    /// From the reading before the first that had it.
    pub(super) since_ns: u64,
    /// When it was seen to have ended.
    pub(super) ended_ns: Option<u64>,
}

impl Row {
    /// Since the beginning.
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
    /// Takes in a reading. `interval_ns` is how far apart readings are meant to be: a trend has a sample
    /// for each interval, also where one was left out.
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
        let samples = (self.elapsed_ns + interval_ns / 2) / interval_ns.max(1);
        let samples = usize::try_from(samples)
            .unwrap_or(TREND_SAMPLES)
            .clamp(1, TREND_SAMPLES);
        let per_s = per_second(self.elapsed_ns);
        for row in &mut self.rows {
            #[expect(clippy::cast_precision_loss, reason = "a sparkline shows eight levels")]
            let rate = |number: u64| number as f32 * per_s;
            let (exits, busy) = (rate(row.spent.exits), rate(row.spent.busy_ns()));
            for sample in 0..samples {
                let place = (self.samples + sample) % TREND_SAMPLES;
                row.trend.set(place, exits, busy);
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
            let place = *self
                .places
                .entry((tally.vcpu_id, tally.key))
                .or_insert_with(|| {
                    rows.push(Row {
                        vcpu_id: tally.vcpu_id,
                        key: tally.key,
                        before: ExitCounters::default(),
                        now: ExitCounters::default(),
                        is_halt: keys.get(&tally.key).is_some_and(|it| it.is_halt),
                        spent: ExitBreakdown::default(),
                        trend: Trend::new(),
                        reading: 0,
                    });
                    rows.len() - 1
                });
            let row = &mut rows[place];
            row.reading = self.readings;
            row.now.merge(&tally.counters);
        }
        // What the source has no more: VMs that ended long ago are counted together.
        let readings = self.readings;
        if self.rows.iter().any(|row| row.reading != readings) {
            self.rows.retain(|row| row.reading == readings);
            let places = self.rows.iter().enumerate();
            self.places = places
                .map(|(place, row)| ((row.vcpu_id, row.key), place))
                .collect();
        }
        for row in &mut self.rows {
            row.spent = ExitBreakdown::between(&row.before, &row.now, row.is_halt);
        }
    }

    /// Forgets the names of VMs and keys that are not there any more.
    fn remove_unused_names(&mut self) {
        let vms: HashSet<u32> = self.vcpus.keys().map(|it| it.tgid).collect();
        self.names.vms.retain(|tgid, _| vms.contains(tgid));
        let keys: HashSet<Key> = self.rows.iter().map(|it| it.key).collect();
        self.names.keys.retain(|key, _| keys.contains(key));
    }

    fn update_vcpus(&mut self, reading: &TopReading, before_ns: u64) {
        for it in self.vcpus.values_mut() {
            it.guest_before_ns = std::mem::take(&mut it.guest_now_ns);
        }
        let mut living = BTreeMap::new();
        for times in &reading.vcpus {
            let vcpu_id = vcpu(times.vcpu_id);
            let it = self.vcpus.entry(vcpu_id).or_insert_with(|| Vcpu {
                since_ns: before_ns,
                ..Vcpu::default()
            });
            it.guest_now_ns += times.guest_ns;
            // What has ended goes by its vCPU alone.
            *living.entry(vcpu_id).or_default() |= times.vcpu_id.tid != 0;
        }
        self.vcpus.retain(|vcpu_id, it| match living.get(vcpu_id) {
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

    /// Learns what has been named since.
    pub fn add_names(&mut self, names: &TopNames) {
        let vms = names.vms.iter().map(|(tgid, name)| (*tgid, name.clone()));
        self.names.vms.extend(vms);
        let keys = names.keys.iter().map(|(key, name)| (*key, name.clone()));
        self.names.keys.extend(keys);
    }

    /// What a VM is called.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> String {
        match (self.names.vms.get(&tgid), tgid) {
            (_, 0) => "ended VMs".into(),
            (Some(name), _) => name.clone(),
            (None, tgid) => format!("pid {tgid}"),
        }
    }

    /// What a reason, or what else is counted, is called.
    #[must_use]
    pub fn key_name(&self, key: Key) -> String {
        let name = self.names.keys.get(&key).map(|it| it.name.clone());
        name.unwrap_or_else(|| format!("{:#x}", key.code))
    }

    /// When the last reading was, in ns since the beginning.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// How long it was from the last reading but one to the last.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
    }

    /// What is missing since the beginning, and since the last reading but one.
    #[must_use]
    pub fn total_and_recent_loss(&self) -> (Loss, Loss) {
        (self.loss, self.recent_loss)
    }

    /// How many samples the trends have had.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples
    }

    /// Has any time been seen? Where `kvm_exit` does not fire there is none.
    #[must_use]
    pub fn has_durations(&self) -> bool {
        self.rows.iter().any(|row| row.now.total_ns > 0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sparkline shows eight levels")]
fn per_second(elapsed_ns: u64) -> f32 {
    1e9 / elapsed_ns.max(1) as f32
}
