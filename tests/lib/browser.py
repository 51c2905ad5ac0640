"""A real Chromium, headless, driven by Debian's chromedriver."""

import os

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from . import paths


class Browser:
    """with Browser() as b: b.open(url); b.text("#state"); b.count("tr"); b.screenshot(path)"""

    def __init__(self, size=(1280, 860), dark=False):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        flags = ["--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--hide-scrollbars", f"--window-size={size[0]},{size[1]}",
                 f"--user-data-dir={paths.scratch('chromium')}"]
        if os.getuid() == 0:
            flags.append("--no-sandbox")
        if dark:
            flags.append("--force-dark-mode")
        for flag in flags:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def before_pages(self, text):
        """Runs JavaScript in every page before the page's own."""
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": text})

    def open(self, url):
        self.driver.get(url)

    def script(self, text, *args):
        """Runs JavaScript in the page; `return` gives its value."""
        return self.driver.execute_script(text, *args)

    def text(self, selector):
        """The text of the first element, None without one."""
        return self.script("const e = document.querySelector(arguments[0]); return e?.innerText",
                           selector)

    def count(self, selector):
        return self.script("return document.querySelectorAll(arguments[0]).length", selector)

    def click(self, selector):
        self.script("document.querySelector(arguments[0]).click()", selector)

    def errors(self):
        """What the page wrote to its console as an error."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))
