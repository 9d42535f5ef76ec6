// Before the page is drawn, so that what was chosen is there from the first frame on.
"use strict";

try {
  const theme = localStorage.getItem("theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch { /* storage may be forbidden: then the system's choice counts */ }
