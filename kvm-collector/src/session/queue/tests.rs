//! Tests of the queue.

use std::{thread, time::Duration};

use bytes::BytesMut;
use kvm_ebpf_common::RECORD_HEADER_BYTES;
use proptest::prelude::*;

use super::*;
use crate::{model::Batch, tracefs::EventName};

/// Creates a batch from records: slot, process id, thread id.
pub(in crate::session) fn batch_of(records: &[(u16, u32, u32)]) -> Batch {
    let mut bytes = BytesMut::new();
    let length = u16::try_from(RECORD_HEADER_BYTES + 16).unwrap();
    for (slot, tgid, tid) in records {
        bytes.extend_from_slice(&1u64.to_ne_bytes());
        bytes.extend_from_slice(&tgid.to_ne_bytes());
        bytes.extend_from_slice(&0u16.to_ne_bytes());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&7u16.to_ne_bytes());
        bytes.extend_from_slice(&slot.to_ne_bytes());
        bytes.extend_from_slice(&tid.to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(usize::from(length)), 0);
    }
    Batch::new(bytes.freeze())
}

/// Creates a batch of this size.
fn batch(bytes: usize) -> QueuedBatch {
    QueuedBatch {
        read: RingRead {
            batch: Batch::new(vec![1; bytes].into()),
            losses: Vec::new(),
        },
        names: NewNames::default(),
        complete_until_ns: 0,
    }
}

fn counts(lost: u64) -> Option<(Vec<EventCount>, u64)> {
    let count = EventCount {
        event: EventName {
            system: "kvm".into(),
            name: "kvm_exit".into(),
        },
        count: lost,
        lost,
    };
    Some((vec![count], lost))
}

/// Sends batches of these sizes, each followed by an update, until the queue is full. Returns the number
/// of batches.
fn fill(sender: &Sender, sizes: &[usize]) -> usize {
    let mut sent = 0;
    for (at, size) in sizes.iter().enumerate() {
        if !sender.has_capacity() {
            break;
        }
        sender.send_batch(batch(*size));
        sender.send_update(Update {
            complete_until_ns: at as u64,
            ..Update::default()
        });
        sent += 1;
    }
    sent
}

#[test]
fn memory_stays_below_the_capacity() {
    let capacity = 8 << 20;
    for size in [100, 10 << 10, BATCH_BYTES / 2, BATCH_BYTES] {
        let (sender, receiver) = channel(capacity);
        let sizes = vec![size; 1 << 17];
        let sent = fill(&sender, &sizes);
        let bytes = sender.0.state().bytes;
        assert!(bytes <= capacity, "{size}: {bytes}");
        // Small batches do not keep whole buffers alive.
        assert!(sent * (size + 300) >= 6 << 20, "{size}: {sent}");
        assert!(!sender.has_capacity());
        // Receiving frees capacity.
        while !sender.has_capacity() {
            receiver.receive().unwrap();
        }
    }
}

#[test]
fn consecutive_updates_are_merged() {
    let (sender, receiver) = channel(0);
    for lost in 1..1000 {
        sender.send_update(Update {
            complete_until_ns: 2000 - lost,
            counts: counts(lost),
            dump: lost == 7,
            flush: lost == 8,
        });
    }
    // An update without counts keeps the previous counts.
    sender.send_update(Update::default());
    drop(sender);
    let Some(Message::Update(update)) = receiver.receive() else {
        panic!("no update");
    };
    assert_eq!(update.complete_until_ns, 1999);
    assert_eq!(update.counts, counts(999));
    assert!(update.dump && update.flush);
    assert!(receiver.receive().is_none());
}

#[test]
fn the_sender_waits_until_there_is_capacity() {
    let (sender, receiver) = channel(0);
    fill(&sender, &[BATCH_BYTES; 10]);
    let receiving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        while receiver.receive().is_some() {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(sender.wait_for_capacity());
    drop(sender);
    receiving.join().unwrap();
}

#[test]
fn the_sender_does_not_wait_for_a_dropped_receiver() {
    let (sender, receiver) = channel(0);
    fill(&sender, &[BATCH_BYTES; 10]);
    assert!(!sender.is_closed());
    let receiving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(receiver);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(sender.wait_for_capacity());
    assert!(sender.is_closed());
    // Later batches are discarded.
    assert_eq!(fill(&sender, &[BATCH_BYTES; 100]), 100);
    assert_eq!(sender.0.state().bytes, 0);
    receiving.join().unwrap();
}

proptest! {
    /// Each batch arrives once, complete and in order, however sending and receiving alternate.
    #[test]
    fn batches_arrive_in_order(
        sizes in prop::collection::vec(prop_oneof![1usize..5000, 400_000..BATCH_BYTES], 1..60),
        receive_counts in prop::collection::vec(0usize..6, 60),
    ) {
        let (sender, receiver) = channel(4 << 20);
        let mut received = Vec::new();
        let mut updates = Vec::new();
        let mut on_message = |message: Option<Message>| match message {
            Some(Message::Batch(queued)) => received.push(queued.complete_until_ns),
            Some(Message::Update(update)) => updates.push(update.complete_until_ns),
            None => {}
        };
        for (at, size) in sizes.iter().enumerate() {
            while !sender.has_capacity() {
                on_message(receiver.receive());
            }
            let mut queued = batch(*size);
            queued.complete_until_ns = at as u64;
            sender.send_batch(queued);
            sender.send_update(Update { complete_until_ns: at as u64, ..Update::default() });
            prop_assert!(sender.0.state().bytes <= 4 << 20);
            for _ in 0..receive_counts[at] {
                if !receiver.is_empty() {
                    on_message(receiver.receive());
                }
            }
        }
        let shared = Arc::clone(&sender.0);
        drop(sender);
        while let Some(message) = receiver.receive() {
            if let Message::Batch(queued) = &message {
                let at = usize::try_from(queued.complete_until_ns).unwrap();
                prop_assert_eq!(queued.read.batch.len(), sizes[at]);
            }
            on_message(Some(message));
        }
        prop_assert_eq!(received, (0..sizes.len() as u64).collect::<Vec<_>>());
        prop_assert!(updates.is_sorted());
        prop_assert_eq!(updates.last().copied(), Some(sizes.len() as u64 - 1));
        prop_assert_eq!(shared.state().bytes, 0);
    }
}
