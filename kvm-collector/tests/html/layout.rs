//! The layout of the page in a browser: widths, causes, time zones; screenshots.

use std::{fs, path::Path};

use libtest_mimic::Failed;

use crate::{
    COMPLETE, between, browser::Browser, check, create_page, simulated_recording::RecordingContents,
};

const WITH_LOSS: RecordingContents = RecordingContents {
    has_loss: true,
    ..COMPLETE
};

/// Measures the page, and each scrolled table after it was scrolled to its right end.
const MEASURE: &str = "
    const root = document.documentElement;
    const lines = [`page ${root.scrollWidth} ${root.clientWidth}`];
    for (const table of document.querySelectorAll('.scroll > table[id]')) {
        const box = table.parentElement;
        box.scrollLeft = 1e6;
        const last = table.tHead.rows[0].lastElementChild.getBoundingClientRect().right;
        const edge = box.getBoundingClientRect().right;
        const isCut = box.scrollWidth > box.clientWidth ? 1 : 0;
        const barHeight = box.offsetHeight - box.clientHeight;
        lines.push(`${table.id} ${Math.round(last - edge)} ${isCut} ${barHeight}`);
    }
    result = lines.join(';')";

/// Checks that the page is not wider than the window, and that all columns of tables fit or can be
/// scrolled to, with a visible scroll bar.
pub(crate) fn check_columns(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = create_page(folder, COMPLETE)?;
    for width in [500, 1280, 1920] {
        let measured = browser.run_script(&page, MEASURE, width)?;
        let mut lines = measured.split(';');
        let page_widths: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
        check(
            page_widths[1] == page_widths[2],
            format!("at {width}: the page overflows: {measured}"),
        )?;
        let mut tables = 0;
        for line in lines {
            tables += 1;
            let words: Vec<_> = line.split(' ').collect();
            let numbers: Vec<i64> = words[1..].iter().filter_map(|it| it.parse().ok()).collect();
            let [beyond_edge, is_cut, bar_height] = numbers[..] else {
                return Err(measured.into());
            };
            check(
                beyond_edge <= 0,
                format!("at {width}: the last column cannot be reached: {line}"),
            )?;
            check(
                is_cut == 0 || bar_height > 0,
                format!("at {width}: there is no scroll bar: {line}"),
            )?;
            check(
                is_cut == 0 || width < 1920,
                format!("at {width}: the table does not fit: {line}"),
            )?;
        }
        check(tables == 3, format!("{tables} tables: {measured}"))?;
    }
    Ok(())
}

/// Counts the visible lines with causes before and after all are shown, and after they are filtered.
const COUNT_CAUSES: &str = "
    const visible = () => [...document.querySelectorAll('.cause')].filter((it) => it.offsetHeight > 0).length;
    const counts = [document.querySelectorAll('.cause').length, visible()];
    document.querySelector('details[open] > summary').click();
    counts.push(visible());
    document.getElementById('all-causes').click();
    counts.push(visible());
    const filter = document.querySelector('input[data-filter=exits]');
    filter.value = 'eoi';
    filter.dispatchEvent(new Event('input'));
    counts.push(visible());
    result = counts.join(' ')";

pub(crate) fn check_causes(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = create_page(folder, COMPLETE)?;
    let counts = browser.run_script(&page, COUNT_CAUSES, 1280)?;
    // 6 vCPUs, with 2 ports and 1 MSR each. The rows with the most time are those of ports.
    check(counts == "18 6 4 18 6", counts)
}

/// Returns the text of the time axis in each of the selectable zones, then the header and the readout.
const READ_TIMES: &str = "
    const clock = document.getElementById('clock');
    const texts = [...clock.options].map((option) => {
        clock.value = option.value;
        clock.dispatchEvent(new Event('change'));
        const labels = [...document.querySelectorAll('#timeline svg:first-child text')];
        return labels.map((it) => it.textContent).join(' | ');
    });
    clock.value = 0;
    document.getElementById('timeline').dispatchEvent(new KeyboardEvent('keydown', { key: 'Home' }));
    texts.push(document.getElementById('period').textContent);
    texts.push(document.getElementById('readout').textContent);
    result = texts.join(';')";

pub(crate) fn check_time_zones(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = create_page(folder, COMPLETE)?;
    let in_utc = browser.run_script(&page, READ_TIMES, 1280)?;
    let texts: Vec<_> = in_utc.split(';').collect();
    check(texts.len() == 4, &in_utc)?;
    check(
        texts[0].contains("2025-10-09, UTC | 08:53:21 | 08:53:22"),
        texts[0],
    )?;
    check(texts[1].contains("from the start | 0 | 1 s"), texts[1])?;
    check(!texts[2].contains("your time zone"), texts[2])?;
    check(texts[3].starts_with("at 08:53:20.00 UTC: "), texts[3])?;
    let elsewhere = browser.in_time_zone("Asia/Kolkata");
    let in_kolkata = elsewhere.run_script(&page, READ_TIMES, 1280)?;
    let texts: Vec<_> = in_kolkata.split(';').collect();
    check(texts.len() == 5, &in_kolkata)?;
    check(texts[0].contains("2025-10-09, UTC | 08:53:21"), texts[0])?;
    check(texts[1].contains("GMT+5:30 | 14:23:21"), texts[1])?;
    check(
        texts[3].contains("(in your time zone: 2025-10-09 14:23:20 GMT+5:30 to"),
        texts[3],
    )?;
    // A recording without a date.
    let html = fs::read_to_string(&page)?;
    let start = format!(
        "\"start\":{},",
        between(&html, "\"start\":", ",\"elapsed_ns\"")?
    );
    fs::write(&page, html.replace(&start, "\"start\":null,"))?;
    let dateless = "
        const labels = [...document.querySelectorAll('#timeline svg:first-child text')];
        result = labels.map((it) => it.textContent).join(' | ') + document.querySelectorAll('#clock').length";
    let axis = elsewhere.run_script(&page, dateless, 1280)?;
    check(
        axis.contains("from the start | 0 | 1 s") && axis.ends_with('0'),
        axis,
    )
}

pub(crate) fn write_screenshots(browser: &Browser, folder: &Path) -> Result<(), Failed> {
    let page = create_page(folder, WITH_LOSS)?;
    for (name, size, is_dark) in [
        ("light", (1280, 4300), false),
        ("dark", (1280, 4300), true),
        ("wide", (1920, 4100), false),
        ("wide-dark", (1920, 4100), true),
        ("phone", (390, 6500), false),
        ("phone-dark", (390, 6500), true),
    ] {
        browser.take_screenshot(&page, size, is_dark, &folder.join(format!("{name}.png")))?;
    }
    Ok(())
}
