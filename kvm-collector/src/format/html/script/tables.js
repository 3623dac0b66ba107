// Sorts and filters the tables. Each row is a tbody, which may have further lines about the row.

const value = (row, column) => {
  const cell = row.rows[0].cells[column];
  return cell.dataset.v === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.v);
};

const sort = (table, key, direction) => {
  const headings = [...table.tHead.rows[0].cells];
  const column = headings.findIndex((heading) => heading.dataset.key === key);
  if (column < 0) return false;
  const rows = [...table.tBodies];
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [value(row, column), row]);
  keyed.sort(([a], [b]) => sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true })));
  table.append(...keyed.map(([, row]) => row));
  headings.forEach((heading) => heading.removeAttribute("aria-sort"));
  headings[column].setAttribute("aria-sort", direction);
  return true;
};

const tables = () => {
  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const heading = event.target.closest("button")?.closest("th");
      if (!heading) return;
      const current = heading.getAttribute("aria-sort");
      // The first click sorts numbers in descending order and names in ascending order.
      const first = heading.classList.contains("n") ? "descending" : "ascending";
      const second = first === "descending" ? "ascending" : "descending";
      sort(table, heading.dataset.key, current === first ? second : first);
    });
  }
  for (const input of document.querySelectorAll("input[data-filter]")) {
    const table = document.getElementById(input.dataset.filter);
    const shown = document.getElementById(`${input.dataset.filter}-shown`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      const rows = [...table.tBodies];
      for (const row of rows) {
        // Search only in names, so that digits match a PID and not part of a duration.
        const names = [...row.querySelectorAll("td:not(.n)")];
        const text = names.map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        count += row.hidden ? 0 : 1;
      }
      shown.textContent = words.length ? `${count} of ${plural(rows.length, "row")}` : "";
    });
  }
};

// Applies the fragment of the page's address to the table of exits: #sort=count sorts in descending order,
// #sort=-count in ascending order; #filter=hlt filters.
const applyFragment = () => {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const table = document.getElementById("exits");
  const key = parameters.get("sort");
  if (table && key) sort(table, key.replace(/^-/, ""), key.startsWith("-") ? "ascending" : "descending");
  const filter = parameters.get("filter");
  const input = document.querySelector("input[data-filter=exits]");
  if (input && filter !== null) {
    input.value = filter;
    input.dispatchEvent(new Event("input"));
  }
};
