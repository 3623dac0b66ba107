//! What was selected of a measurement or a recording.

use serde::{Deserialize, Serialize};

/// The values of the options that select. Options that were not given are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelectedBy {
    /// Patterns of VM names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vm: Vec<String>,
    /// Process ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pid: Vec<u32>,
    /// Indices of vCPUs, and ranges of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vcpu: Vec<String>,
    /// Thread ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tid: Vec<u32>,
    /// Patterns of exit reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason: Vec<String>,
    /// Patterns of events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event: Vec<String>,
    /// Start of the time range of a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// End of the time range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// How many values of an option a description names.
const MAX_DESCRIBED: usize = 8;

/// Joins the first values of an option.
fn alternatives(mut values: Vec<String>) -> String {
    let more = values.len().saturating_sub(MAX_DESCRIBED);
    if more > 0 {
        values.truncate(MAX_DESCRIBED);
        values.push(format!("{more} more"));
    }
    values.join(" or ")
}

impl SelectedBy {
    /// Returns whether nothing is excluded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns which VMs, vCPUs, threads and reasons this selects from a recording that was limited to others when it was made.
    /// An option here is taken to select a part of the recording's.
    #[must_use]
    pub fn within(&self, recording: &Self) -> Self {
        fn or<T: Clone>(own: &[T], recording: &[T]) -> Vec<T> {
            if own.is_empty() { recording } else { own }.to_vec()
        }
        Self {
            vm: or(&self.vm, &recording.vm),
            pid: or(&self.pid, &recording.pid),
            vcpu: or(&self.vcpu, &recording.vcpu),
            tid: or(&self.tid, &recording.tid),
            reason: or(&self.reason, &recording.reason),
            ..self.clone()
        }
    }

    /// Describes each option that was given, such as `VM web-* or db-1`. Of many values, the first are named.
    #[must_use]
    pub fn descriptions(&self) -> Vec<String> {
        let times = |time: &Option<String>| time.iter().cloned().collect::<Vec<_>>();
        let ranges = [("from", times(&self.from)), ("until", times(&self.until))];
        let options = self.options().map(|(name, _, values)| (name, values));
        let options = options.into_iter().chain(ranges);
        let given = options.filter(|(_, values)| !values.is_empty());
        given
            .map(|(name, values)| format!("{name} {}", alternatives(values)))
            .collect()
    }

    /// Returns whether the same VMs, vCPUs, threads, reasons and events are selected, in any order. The time range may
    /// differ.
    #[must_use]
    pub fn selects_the_same(&self, other: &Self) -> bool {
        self.sorted_options() == other.sorted_options()
    }

    /// Returns the options that select VMs, vCPUs, threads, reasons and events, as they are given on the command line;
    /// `none` if there are none.
    #[must_use]
    pub fn command_line(&self) -> String {
        let options = self.sorted_options();
        let options = options
            .iter()
            .map(|(name, values)| format!("{name} {}", values.join(",")));
        match options.collect::<Vec<_>>() {
            options if options.is_empty() => "none".to_owned(),
            options => options.join(" "),
        }
    }

    /// Returns the options that select VMs, vCPUs, threads, reasons and events: the name in descriptions, the option, and its
    /// values.
    fn options(&self) -> [(&'static str, &'static str, Vec<String>); 6] {
        let numbers = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>();
        [
            ("VM", "--vm", self.vm.clone()),
            ("process", "-p", numbers(&self.pid)),
            ("vCPU", "--vcpu", self.vcpu.clone()),
            ("thread", "--tid", numbers(&self.tid)),
            ("reason", "--reason", self.reason.clone()),
            ("event", "-e", self.event.clone()),
        ]
    }

    /// Returns each option that was given, with its values in order, each once.
    fn sorted_options(&self) -> Vec<(&'static str, Vec<String>)> {
        let options = self.options().map(|(_, option, values)| (option, values));
        let given = options.into_iter().filter(|(_, values)| !values.is_empty());
        given
            .map(|(name, mut values)| {
                values.sort_unstable();
                values.dedup();
                (name, values)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_selection_and_the_time_range_make_no_difference() {
        let selected = |vms: &[&str], vcpu: &str| SelectedBy {
            vm: vms.iter().map(|it| (*it).to_owned()).collect(),
            vcpu: vec![vcpu.to_owned()],
            ..SelectedBy::default()
        };
        let one = selected(&["web", "db"], "0-3");
        let later = SelectedBy {
            from: Some("2s".to_owned()),
            ..selected(&["db", "web", "db"], "0-3")
        };
        assert!(one.selects_the_same(&later));
        assert!(!one.selects_the_same(&selected(&["web", "db"], "0")));
        assert_eq!(later.command_line(), "--vm db,web --vcpu 0-3");
        assert_eq!(SelectedBy::default().command_line(), "none");
    }

    #[test]
    fn a_description_names_the_first_values() {
        let described = |count| SelectedBy {
            pid: (1..=count).collect(),
            ..SelectedBy::default()
        };
        let eight = "process 1 or 2 or 3 or 4 or 5 or 6 or 7 or 8";
        assert_eq!(described(8).descriptions(), [eight]);
        let many = format!("{eight} or 992 more");
        assert_eq!(described(1000).descriptions(), [many]);
    }
}
