//! Names of VMs on the screen of `top`.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    check_text,
    hostile_recording::{TGIDS, vm_name},
    simulated_host::{HLT, SimulatedHost, SimulatedVm, draw_text},
};

#[test]
fn names_on_the_screen_are_harmless() {
    let vms = TGIDS.map(|tgid| SimulatedVm::new(tgid, &vm_name(), 2, &[HLT]));
    let host = SimulatedHost {
        vms: vms.into(),
        ..SimulatedHost::default()
    };
    for size in [(80, 24), (200, 50)] {
        let mut app = host.app_after(3, size);
        // All VMs, the vCPUs of one, and the exit reasons of one vCPU.
        for level in 0..3 {
            if level > 0 {
                app.handle_key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
                host.add_readings(&mut app, 3 + level..=4 + level);
            }
            let screen = draw_text(&app, size);
            check_text("top", screen.as_bytes(), size.0.into());
            assert!(screen.contains(r"=cmd\x1b"), "level {level}: {screen}");
            if level == 0 {
                for tgid in TGIDS {
                    assert!(screen.contains(&format!("(pid {tgid})")), "{screen}");
                }
            }
        }
    }
}
