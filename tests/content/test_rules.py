"""Every rule keeps its word: its examples match it, and what it is to let pass it lets pass."""

from __future__ import annotations

import re

import pytest

from proxy.content.detect import CATEGORIES, Rule, packs, shipped

DETECTOR = shipped()
RULES = pytest.mark.parametrize("rule", packs(), ids=lambda rule: rule.id)


def hit(text: str) -> set[str]:
    return {hit.rule for hit in DETECTOR.judge(text).hits}


@RULES
def test_a_rule_finds_its_examples(rule: Rule) -> None:
    assert [text for text in rule.matches if rule.id not in hit(text)] == []


@RULES
def test_a_rule_leaves_its_counterexamples_alone(rule: Rule) -> None:
    assert [text for text in rule.passes if rule.id in hit(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "{{ $json.body.email }} is undefined in my workflow",
        "${{ secrets.DEPLOY_KEY }} is empty in the pipeline",
        "{{ $json._links.self.href }} isn't resolved",
        "{{ $json.config.url }} and {{ $('Webhook').item.json.body.request.args }} are undefined",
        "{{ /id=(\\d+)/.exec($json.url)[1] }} gives null",
        "{{ $json.items.filter(i => i.price > 10).map(i => i.name).join(', ') }}",
        "{{ config.title }} and {{ settings.color_primary }} stay blank",
        "why does {{ request.args.get('q') }} print None, and {{ session }} nothing?",
        "{{#each rows}}<li>{{this}}</li>{{/each}} prints [object Object]",
        "fetch(`${process.env.API_URL}/users/${config.id}`) gives 404",
        "`${user.constructor.name} ${this.name}`",
        "docker inspect -f '{{json .Config.Env}}' web",
        "{{ source('raw', 'orders') }} isn't found in dbt",
        "{{ url_for('static', filename='a.css') }} gives 404",
        "{{ 'style.css' | asset_url | stylesheet_tag }}",
        "{{ app.request.locale }} in Symfony, {{ $parent.item.name }} in AngularJS, {{ window.location.href }} in Vue",
        '{{ config[\'port\'] }} in Ansible, {{ os.Getenv "TITLE" }} in Hugo, {{ env "DB_PASSWORD" }} in Helmfile',
        "{$smarty.server.REQUEST_URI} is empty",
        "<%= File.basename(path) %> and <%= require('./header.html').default %>",
        "f'{self.__dict__}' and '{0.__class__.__name__}'.format(self)",
        "${name}",
        "Hello. {{ name }} Thanks for your order",
        "{% set timeout = 60 * 5 %}",
        "- var title = 'Home'",
        "<%= @user.name %> and <%- include('header') %>",
        "\\input{chapter1.tex} and \\include{intro}",
        "echo ${HOME} prints nothing",
        "${A:-${B:-c}} in a shell, and ${sys:logs:-${env:HOME}/logs} in a logger's file?",
        "{% for row in rows %} how do I get its number?",
        "{% include '../nav.html' %} isn't found",
        "<%= ENV['PORT'] %> is nil",
        "#foreach($row in $rows) $row.name #end prints the names only",
        "@foreach (var row in Model.Rows) { @row.Name } stops early",
        "{$row.name|escape} and {include file='head.tpl'} in one page",
        "why java.lang.NullPointerException, and what does obj.getClass().getName() say?",
        "@ann.bee@social.example wrote to me",
        "~/.n8n/config is where?",
        "../../src/main.ts isn't found",
        r"C:\Users\Ann\Documents\bill.pdf can't be opened",
        "where is /etc/nginx/nginx.conf",
        "/etc/X11/xorg.conf",
        "what is /proc/cpuinfo for?",
        "what is in /etc/passwd?",
        "I looked at two files. /etc/hosts is fine and /etc/fstab is not.",
        "The log is /var/log/syslog. Please help",
        "import { Order } from '../../../shared/order'",
        "Cannot find module '../../../../config'",
        "<img src='../../../assets/logo.png'>",
        "include('../config.php') fails, and so does path: '../.env'",
        "cd ../../ and then npm install",
        r"C:\\xampp\\htdocs\\index.php on line 3",
        r"%APPDATA%\\npm is where it goes",
        r"\\nas.local\photos and \\192.168.1.10\public ask for a password",
        "phar:///usr/local/bin/composer/src/a.php on line 3",
        "file:///C:/Users/ann/page.html opens empty",
    ],
)
def test_a_question_about_a_template_or_a_path_is_no_attack(text: str) -> None:
    assert DETECTOR.judge(text).scores.keys().isdisjoint({"command_injection", "path_traversal"})


@RULES
def test_a_rule_says_why_and_where_it_is_from(rule: Rule) -> None:
    assert rule.why.endswith(".")
    assert rule.source


def test_rules_have_names_of_their_own() -> None:
    ids = [rule.id for rule in packs()]
    assert len(ids) == len(set(ids))
    assert {rule.category for rule in packs()} <= set(CATEGORIES)


def test_every_piece_that_a_rule_names_is_put_in() -> None:
    assert [rule.id for rule in packs() if re.search("<<[a-z]+>>", rule.pattern + rule.anchor)] == []
