//! Slow exits.

use std::time::Duration;

use super::{default_options, event, exit, feed};
use crate::event::EventType;

#[test]
fn slow_exits_are_reported_with_their_cause() {
    let mut options = default_options();
    options.timing.slow_threshold = Some(Duration::from_nanos(100));
    let pio = EventType::Pio { port: 0x3f8, rw: 1 };
    let events = [
        event(1000, 0, 1, exit(1)),
        event(1010, 0, 1, pio),
        event(1100, 0, 1, EventType::Entry),
        event(2000, 0, 1, exit(1)),
        event(2010, 0, 1, pio),
        event(2101, 3, 1, EventType::Entry),
        // Halted time does not make an exit slow.
        event(3000, 0, 1, exit(1)),
        event(3500, 0, 1, EventType::Wakeup { ns: 450 }),
        event(3510, 0, 1, EventType::Entry),
    ];
    let (mut feeder, _) = feed(options, &events);
    let slow: Vec<_> = feeder.replay.drain_slow_exits().collect();
    assert_eq!(slow.len(), 1);
    let exit = &slow[0];
    assert_eq!(
        (exit.header.time_ns, exit.header.cpu, exit.header.tid),
        (2101, 3, 1)
    );
    assert_eq!((exit.span.total_ns, exit.span.key.code), (101, 0x78));
    assert_eq!(
        (exit.cause.code, exit.cause.subcode, exit.cause.kind),
        (0x3f8, 1, 1)
    );
    assert_eq!((exit.guest_rip, exit.vcpu), (0xfff0, 1));
    assert_eq!(feeder.replay.drain_slow_exits().count(), 0);
}
