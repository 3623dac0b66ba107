//! Pieces of HTML that several sections use.

use super::escape::Text;

/// Shown in place of a number that the recording does not contain.
pub(super) const UNKNOWN: &str = "<span class=\"zero\" title=\"not recorded\">-</span>";

/// Returns a VM as HTML: its name and PID. The PID is omitted if the name already ends with it.
pub(super) fn vm(name: &str, pid: u32) -> String {
    match name.strip_suffix(&format!("-{pid}")) {
        Some(_) => Text(name).to_string(),
        None => format!("{} <small>pid {pid}</small>", Text(name)),
    }
}
