//! Areas of the screen.

use ratatui::layout::Rect;

/// Width of the histogram pane beside the rows.
const SIDE_PANE_WIDTH: u16 = 52;
/// Minimum width of the rows beside the pane.
const MIN_ROWS_WIDTH: u16 = 76;
/// Height of the histogram pane below the rows.
const BOTTOM_PANE_HEIGHT: u16 = 10;
/// Minimum height of the rows above the pane.
const MIN_ROWS_HEIGHT: u16 = 4;

/// Which optional areas to show.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptionalAreas {
    /// Totals of a VM or vCPU, below those of the host.
    pub(super) scope_totals: bool,
    /// The line about lost events.
    pub(super) loss: bool,
    /// The line of keys.
    pub(super) keys: bool,
    /// The histogram pane.
    pub(super) pane: bool,
}

/// Areas of the screen. An area that does not fit has no height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Name of the program, number of VMs and vCPUs, interval and elapsed time.
    pub(super) title: Rect,
    /// Totals of the host.
    pub(super) totals: Rect,
    /// Path to the current VM or vCPU.
    pub(super) path: Rect,
    /// Totals of the current VM or vCPU.
    pub(super) scope_totals: Rect,
    /// Lost events.
    pub(super) loss: Rect,
    /// Column headings.
    pub(super) header: Rect,
    /// The table.
    pub(super) rows: Rect,
    /// The histogram.
    pub(super) pane: Option<Rect>,
    /// Available keys.
    pub(super) keys: Rect,
}

impl Layout {
    /// Divides a screen of this width and height.
    pub(super) fn new((width, height): (u16, u16), optional: OptionalAreas) -> Self {
        let mut left = Rect::new(0, 0, width, height);
        // On a low screen the rows come first, so the other areas have a minimum screen height.
        let top = |is_shown: bool, left: &mut Rect| {
            let lines = u16::from(is_shown);
            let line = Rect {
                height: lines,
                ..*left
            };
            left.y += lines;
            left.height -= lines;
            line
        };
        let title = top(height >= 4, &mut left);
        let totals = top(height >= 8, &mut left);
        let path = top(height >= 6, &mut left);
        let scope_totals = top(height >= 10 && optional.scope_totals, &mut left);
        let loss = top(height >= 5 && optional.loss, &mut left);
        let lines = u16::from(height >= 7 && optional.keys);
        left.height -= lines;
        let keys = Rect {
            y: left.bottom(),
            height: lines,
            ..left
        };
        let mut pane = None;
        if optional.pane {
            if width >= SIDE_PANE_WIDTH + 1 + MIN_ROWS_WIDTH {
                left.width -= SIDE_PANE_WIDTH + 1;
                pane = Some(Rect {
                    x: left.right() + 1,
                    width: SIDE_PANE_WIDTH,
                    ..left
                });
            } else if left.height > BOTTOM_PANE_HEIGHT + MIN_ROWS_HEIGHT {
                left.height -= BOTTOM_PANE_HEIGHT;
                pane = Some(Rect {
                    y: left.bottom(),
                    height: BOTTOM_PANE_HEIGHT,
                    ..left
                });
            }
        }
        let header = top(left.height >= 2, &mut left);
        Self {
            title,
            totals,
            path,
            scope_totals,
            loss,
            header,
            rows: left,
            pane,
            keys,
        }
    }
}
