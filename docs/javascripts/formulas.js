// Formulas are rendered by KaTeX, which is a file of this site: no network is asked.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".arithmatex").forEach((element) => {
    const said = element.textContent.trim(), tex = said.replace(/^\\[([]|\\[)\]]$/g, "");
    katex.render(tex, element, { displayMode: said.startsWith("\\["), throwOnError: false });
  });
});
