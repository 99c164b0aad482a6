"use strict";
(() => {
  const browser = document.querySelector(".browser");
  const form = browser.querySelector("form");
  const items = [...browser.querySelectorAll("details")];
  const output = form.querySelector("output");
  form.hidden = false;

  function contains(text, wanted) {
    return text.toLowerCase().includes(wanted.trim().toLowerCase());
  }

  function show() {
    const wanted = Object.fromEntries(new FormData(form));
    let shown = 0;
    for (const item of items) {
      const { stage, verdict, error, task } = item.dataset;
      const failing = wanted.verdict === "failing" && verdict !== "pass" && verdict !== "";
      const fits = (!wanted.stage || stage === wanted.stage)
        && (!wanted.verdict || verdict === wanted.verdict || failing)
        && contains(error, wanted.error) && contains(task, wanted.task)
        && (!wanted.text || contains(item.textContent, wanted.text));
      item.hidden = !fits;
      shown += fits;
    }
    output.textContent = `${shown} of ${items.length} shown`;
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
