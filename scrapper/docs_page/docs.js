/* Swagger UI leaves parts without a name or a level for screen readers, and boxes that the keyboard cannot scroll. */
function mendParts() {
  document.getElementById("servers")?.setAttribute("aria-label", "Server");
  document.querySelector("section.models > h4")?.setAttribute("aria-level", "3");
  for (const table of document.querySelectorAll("table.responses-table:not([aria-label])")) {
    table.setAttribute("aria-label", `Responses of ${table.id.replace(/_responses$/, "")}`);
  }
  for (const field of document.querySelectorAll("tr[data-param-name] select:not([aria-label])")) {
    field.setAttribute("aria-label", field.closest("tr").dataset.paramName);
  }
  for (const box of document.querySelectorAll("pre.microlight:not([tabindex])")) {
    box.tabIndex = 0;
  }
}

new MutationObserver(mendParts).observe(document.getElementById("api"), { childList: true, subtree: true });
window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  // A link inside of each operation's button would be out of reach for the keyboard.
  deepLinking: false,
  validatorUrl: null,
});
