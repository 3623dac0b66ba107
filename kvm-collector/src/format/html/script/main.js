// Runs everything. The body gets data-ready when everything is drawn, and data-error with a message if the script
// fails.

const reportError = (error) => document.body.setAttribute("data-error", String(error));
addEventListener("error", (event) => reportError(event.message));
try {
  const it = data();
  localTimes();
  timeline(it);
  histograms(it);
  tables();
  applyFragment();
  addEventListener("hashchange", applyFragment);
  document.body.setAttribute("data-ready", "");
} catch (error) {
  reportError(error.stack || error);
}
