"""How measured numbers become a verdict.

A claim says that one or several quantities theta_1 .. theta_k (its *parts*) lie in a region. Each part is
measured once a seed, and its mean is given a two-sided Student t interval [L, U] of confidence 1 - 2 alpha:

- **reproduced**: every part's [L, U] lies in the region. Each edge is then a one-sided t test at alpha, so an
  upper edge alone is a non-inferiority test, two edges are the two one-sided tests (TOST; Schuirmann, 1987) of
  equivalence, and several parts are an intersection-union test (Berger, 1982): all must pass, and no correction is due.
- **refuted**: some part's interval lies wholly outside, after correction for the parts, claims and looks. A part's
  refutation p is that of the one-sided t test against the edge that its mean has crossed; a claim of k parts
  has min(1, k min p) (Bonferroni), and Holm's procedure (1979) keeps the chance of any false refutation in
  the whole suite at 5 %, whatever the dependence between claims that share runs.
- **practically equal**: neither, and every part's [L, U] lies within a margin of equality that the claim names: TOST
  at alpha once more, so that its answer, no difference of more than the margin, is false at most as often.
- **inconclusive**: anything else, always so with one seed; the number of seeds that would decide it is given.

They are asked in this order. What lies in the region and within the margin is reproduced, what lies outside and
within it is refuted: the claim was answered, and that the difference is small, too, its interval shows. Equality is
the answer where the claim has none, and taking it last can only make it rarer, so its error rate stays.

A fixed number of seeds is judged once, at alpha = 5 %. Where seeds are added to what is undecided, claims are judged
again and again, and each look has its own alpha, 5 % in all; see `looks`. Refutations enter Holm with p values that
hold whenever one stops, so that verdicts may be read at any time.

A region's edges belong to it. Between two edges closer than about three standard errors both sides can be
crossed by chance, and the 5 % of a false refutation rises, to 10 % for a region that is one point.

The t interval is exact for normal errors at any n. Identical samples of something counted, such as correct
images, do not say that seeds never differ: their sd is taken as one step of the count. A bootstrap is not offered:
resampling 3 to 10 seeds knows nothing of the tails, and its nominal 95 % interval covers 75 to 88 %.
"""
