/** DOM helpers. */

export const byId = (id) => document.getElementById(id);

export function cloneTemplate(template) {
  return byId(template).content.firstElementChild.cloneNode(true);
}

/** Create an element with *properties* and *children*; null children are skipped. */
export function createElement(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Create an icon from one of the symbols at the top of the document. */
export function icon(name, className = "") {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("class", `icon ${className}`);
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Return a function that runs *work* after *milliseconds*; further calls before that have no effect. */
export function throttle(work, milliseconds) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      work();
    }, milliseconds);
  };
}
