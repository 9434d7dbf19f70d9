"""Shared memory: the slab's blocks, the page a worker counts in, the pages of metrics."""

import multiprocessing

import hypothesis.strategies as st
from hypothesis import given, settings

from blixt.serve.metrics import ApiMetrics, MetricsPage, total
from blixt.serve.metrics_text import render
from blixt.serve.page import Page
from blixt.serve.slab import UNIT_BYTES, Slab


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**32)), max_size=120))
def test_blocks_of_a_slab_never_overlap_and_all_of_it_comes_back(steps):
    slab = Slab.create(32 * UNIT_BYTES)
    lent = []
    for number, (lend, choice) in enumerate(steps):
        if lend or not lent:
            body = slab.lend(1 + choice % (9 * UNIT_BYTES))
            if body is not None:
                mark = bytes([number % 251])
                body.view[:1], body.view[-1:] = mark, mark
                lent.append((body, mark))
        else:
            body, mark = lent.pop(choice % len(lent))
            assert bytes(body)[:1] == bytes(body)[-1:] == mark
            body.release()
            body.release()  # a second time does nothing
    for body, mark in lent:
        assert bytes(body.view[:1]) == mark
        body.release()
    assert slab.used_bytes == 0
    whole = slab.lend(32 * UNIT_BYTES)
    assert whole is not None
    whole.release()
    slab.close()


def test_a_full_slab_lends_nothing_and_says_so():
    slab = Slab.create(2 * UNIT_BYTES)
    assert slab.lend(3 * UNIT_BYTES) is None
    first, second = slab.lend(1), slab.lend(UNIT_BYTES)
    assert slab.lend(1) is None
    assert slab.used_bytes == 2 * UNIT_BYTES
    first.release()
    assert slab.lend(UNIT_BYTES) is not None
    second.release()


def test_a_descriptor_leads_another_process_to_the_body():
    slab = Slab.create(4 * UNIT_BYTES)
    body = slab.lend(5)
    body.view[:] = b"hello"
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=read_body, args=(slab, body.descriptor, there))
    process.start()
    assert here.poll(20)
    assert here.recv() == (b"hello", True)
    process.join()


def read_body(slab, descriptor, pipe):
    view = slab.read(descriptor)
    pipe.send((bytes(view), view.readonly))


def test_a_page_counts_for_each_front_on_its_own():
    page = Page.create()
    page.started = 3
    page.set_started(63, 7)
    assert [page.started, page.started_of(1), page.started_of(63)] == [3, 0, 7]
    page.close()
    page.close()


def test_the_metrics_of_two_processes_are_summed_and_a_dead_ones_gauges_forgotten():
    pages = [MetricsPage.create(2), MetricsPage.create(2)]
    first, second = (ApiMetrics(page.block(1)) for page in pages)
    first.answered(200, 0.003)
    second.answered(200, 0.7)
    second.answered(503, 60.0)
    second.pieces += 5
    second.tokens(3, 9)
    second.gauges["in_flight"] = lambda: 4
    second.refresh()
    text = render([("/a", total([page.block(1) for page in pages]))], "1.0", 2)
    assert 'blixt_serve_requests_total{api="/a",status="200"} 2' in text
    assert 'blixt_serve_requests_total{api="/a",status="503"} 1' in text
    assert 'blixt_serve_request_seconds_bucket{api="/a",le="1.0"} 2' in text
    assert 'blixt_serve_request_seconds_bucket{api="/a",le="+Inf"} 3' in text
    assert 'blixt_serve_request_seconds_sum{api="/a"} 60.703' in text
    assert 'blixt_serve_stream_pieces_total{api="/a"} 5' in text
    assert 'blixt_serve_tokens_total{api="/a",kind="completion"} 9' in text
    assert 'blixt_serve_in_flight{api="/a"} 4' in text
    pages[1].clear_gauges()
    text = render([("/a", total([page.block(1) for page in pages]))], "1.0", 2)
    assert 'blixt_serve_in_flight{api="/a"} 0' in text
    assert 'blixt_serve_requests_total{api="/a",status="200"} 2' in text
    assert 'blixt_serve_requests_total{api="/b"' not in text


def test_a_new_front_goes_on_counting_on_its_predecessors_page():
    page = MetricsPage.create(1)
    ApiMetrics(page.block(0)).answered(200, 0.1)
    ApiMetrics(page.block(0)).answered(200, 0.1)
    text = render([("/a", total([page.block(0)]))], "1.0", 1)
    assert 'blixt_serve_requests_total{api="/a",status="200"} 2' in text


def test_labels_are_escaped():
    text = render([('/a"\\\n', total([ApiMetrics().cells]))], "1.0", 1)
    assert 'api="/a\\"\\\\\\n"' in text
