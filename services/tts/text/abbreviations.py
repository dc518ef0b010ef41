"""The words whose full stop may not end a sentence, in the languages that are spoken most."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Something always follows: titles, "for example", units before a name. Never the end of a sentence.
# Written as they are in the middle of a sentence; a capital first letter is accepted, too.
JOINS = _words(
    # English
    "Dr Mr Mrs Ms Mx Prof Rev Hon Gen Col Capt Cmdr Lt Sgt Maj Gov Sen Rep Pres Messrs Mt Ft St Ste"
    " e.g i.e vs viz cf approx resp esp incl"
    # German
    " Hr Hrn Fr Frl Dipl Ing Stud d.h z.B i.d.R s.o s.u v.a m.E z.T u.U o.g bzw bspw ca evtl ggf"
    " inkl exkl mult insb sog vgl zzgl abzgl einschl mind Tel Str Nrn geb gest"
    # French
    " Mme Mmes Mlle Mlles MM Mgr p.ex ex env av apr"
    # Spanish
    " Sr Sra Srta Sres Dra Dña Lic Ing p.ej ej aprox EE"
    # others
    " Sig dott sig डॉ श्री रु"
)

# May end a sentence: it does before a capital letter, a quote or the end of a line,
# not before a small letter or a digit ("No. 5", "No. I don't", "5 p.m. on Monday").
DEPENDS = _words(
    "etc usw usf al a.m p.m A.M P.M a.C d.C B.C A.D u.a u.v.m o.ä a.a.O"
    " No no Nos nos Nr nr Fig fig Figs Art art Vol vol Ch ch chap Sec sec p pp S s Bd Kap Abb Tab"
    " Abs Aufl Núm núm Cap cap pág págs op Op eq Eq ver Ver ed Ed Jan Feb Mar Apr Jun Jul Aug Sep"
    " Sept Oct Nov Dec Okt Dez janv févr avr juil déc ene abr ago dic Jh Std Min Sek km cm mm kg ft"
    " lb oz hrs mins max min Max Min Ud Uds Vd Vds temp Temp hab"
)

# Names: capitals follow them inside a sentence as well ("the U.S. Army"), so they end one only
# before a word that sentences begin with.
NAMES = _words(
    "U.S U.K U.N E.U U.S.A U.S.S.R D.C L.A N.Y Ph.D M.D B.A M.A B.Sc M.Sc UU EE.UU"
    " Inc Ltd Corp Co Jr Bros Ave Blvd Rd Dept Univ S.A S.L e.V e.K Mio Mrd Tsd"
)

# Single small letters that abbreviate: z. B., d. h., u. a., i. e., p. ex., a. m., s. o., v. Chr.
LETTERS = frozenset("zdhuaoisvepm")
UNITS = frozenset("hms")  # after a number they are units: "in 5 h."

SENTENCE_STARTERS = _words(
    "The This That These Those There Then It Its He She They We You I His Her Their Our My Your"
    " A An And As At But By For From Here How However If In Let No Not Next Now On Or Once One"
    " Some So Such Thus Therefore To Today Use Was What When Where Which While Who Why With Yes Yet"
    " Because After Before Although Also Another All Both Each Every Many Most Other Since"
    " Still"
    " Der Die Das Dies Diese Dieser Dieses Es Er Sie Wir Ihr Ich Ein Eine Einen Im Am Zum Und Aber"
    " Oder Doch Dann Wenn Weil Auch Auf Aus Bei Mit Nach Seit Von Vor Zu Hier Heute Man Nun Wie Was"
    " Le La Les Un Une Il Elle Ils Elles Nous Vous On Je Tu Et Mais Ou Donc Ce Cet Cette Ces Dans"
    " De Des Du Pour Par Puis Quand Si Sur Avec Ainsi"
    " El Los Las Una Unos Unas Y Pero O En Con Del Por Para Se Su Sus Es Esta Este Esto Como Cuando"
    " Luego Sin También"
)

# German writes ordinals and dates with a full stop. They follow these words …
ORDINAL_LEADS = _words(
    "am der die das dem den des im vom zum zur beim ab bis seit und oder ein eine einen einem"
    " einer eines ihr ihre sein seine jeder jede jedes von erste"
)
# … or stand before a month or a century.
MONTHS = _words(
    "Januar Jänner Februar Feber März April Mai Juni Juli August September Oktober November"
    " Dezember Jh Jhd Jahrhundert"
)


def beginnings(words: frozenset[str]) -> frozenset[str]:
    """Of a word that is none of these, the fewest letters tell."""
    return frozenset(word[:length] for word in words for length in range(1, len(word) + 1))
