/** Add the labels, heading levels and keyboard access that Swagger UI lacks. */
function fixAccessibility() {
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

new MutationObserver(fixAccessibility).observe(document.getElementById("api"), { childList: true, subtree: true });
window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  // With deep linking, Swagger UI puts a link into each operation's button, where the keyboard cannot reach it.
  deepLinking: false,
  validatorUrl: null,
});
