"use strict";
(() => {
  const browser = document.querySelector(".browser");
  if (!browser) return;
  const form = browser.querySelector("form");
  const items = [...browser.querySelectorAll("details")];
  const output = form.querySelector("output");
  form.hidden = false;

  function show() {
    const { verdict, arm, text } = Object.fromEntries(new FormData(form));
    const needle = text.trim().toLowerCase();
    let shown = 0;
    for (const item of items) {
      const data = item.dataset;
      const fits = (!verdict || data.verdict === verdict || (verdict === "failing" && data.verdict !== "pass"))
        && (!arm || data.arm === arm) && data.task.toLowerCase().includes(needle);
      item.hidden = !fits;
      shown += fits;
    }
    output.textContent = `${shown} of ${items.length} shown`;
    browser.dataset.shown = shown;
  }

  function fromAddress() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      const field = form.elements.namedItem(name);
      if (field) field.value = value;
    }
    show();
  }

  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", fromAddress);
  fromAddress();
})();
